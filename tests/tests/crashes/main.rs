//! A crash at every AWS call, on the wire.
//!
//! `cargo crash-table` kills the real `rollout-driver` before and after every AWS call of a whole rollout and of a whole
//! rollback, of a pair and of a worker whose version is replaced in place, loses answers, throttles, and writes
//! `tests/crashes.md`. It fails where a run does not end as the undisturbed one does. `CRASH=part-of-a-row,another` runs only
//! those rows, and `CRASH=open` what has no run yet or did not end well; all else stays as it is. `CRASHES_AT_ONCE` says how
//! many run side by side. The usual run of the suite looks whether the table still fits what the driver calls, and runs a
//! few of its rows again.

mod call_site;
mod fault_injector;
mod final_state;
mod run;
mod scenario;
mod table;

use call_site::CallSite;
use fault_injector::{CallFault, FaultPoint};
use final_state::FinalState;
use futures::{FutureExt as _, StreamExt as _};
use run::{DEPLOYED, Lab, Limits, Report, SHORT};
use scenario::Scenario;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use table::{Cell, RESULTS, Row};
use tests::harness::HarnessError;

/// How many runs are made side by side: they wait for leases, not for the machine.
const AT_ONCE: usize = 32;
/// How often a run is made whose call did not come: a wait may be shorter than a look, once in a while.
const TRIES: usize = 3;

/// How much later than the driver's time-out a takeover wake may come: the product's own 5 s, and what a busy machine takes.
const TAKEOVER_MARGIN: Duration = Duration::from_secs(25);

/// The rows that the usual run of the suite runs again, by how they begin, and their faults.
const SAMPLE: [(&str, CallFault); 8] = [
    ("| preflight | `dynamodb:TransactWriteItems` |", CallFault::KilledAfter),
    ("| registering | `ecs:RegisterTaskDefinition` |", CallFault::KilledAfter),
    ("| before traffic | `ecs:RunTask` |", CallFault::KilledAfter),
    ("| shifting 1, writing | `elbv2:ModifyRule` |", CallFault::KilledAfter),
    ("| shifting 1, holding | `dynamodb:UpdateItem` |", CallFault::AnswerLost),
    ("| rolling back, weights back | `elbv2:ModifyRule` |", CallFault::KilledBefore),
    ("| replacing | `ecs:UpdateService` |", CallFault::KilledAfter),
    ("| rolling back, setting | `ecs:UpdateService` |", CallFault::KilledBefore),
];

fn expect_ok<T>(outcome: Result<T, HarnessError>) -> T {
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}

fn with_lab<T>(body: impl AsyncFnOnce(Arc<Lab>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let lab = Arc::new(expect_ok(Lab::open().await));
        body(lab).await
    })
}

/// Each scenario, run without any fault.
type Undisturbed = BTreeMap<Scenario, Report>;

async fn undisturbed(lab: &Arc<Lab>) -> Undisturbed {
    let runs = Scenario::ALL.map(|scenario| async move { (scenario, expect_ok(lab.run(scenario, None, SHORT).await)) });
    futures::future::join_all(runs).await.into_iter().collect()
}

/// The rows of the table, without cells: what the stories call, and what the rollout has is not repeated.
fn rows(undisturbed: &Undisturbed) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (&scenario, report) in undisturbed {
        for (call_site, times) in &report.rows {
            if !rows.iter().any(|row| row.call_site == *call_site) {
                let cells = [const { None }; CallFault::ALL.len()];
                rows.push(Row { scenario, call_site: call_site.clone(), times: *times, cells });
            }
        }
    }
    rows
}

/// Makes the run of a cell.
///
/// # Errors
/// [`HarnessError`] where the call was never made, or the deployment did not come to an end.
async fn triggered(
    lab: &Lab,
    scenario: Scenario,
    at: &CallSite,
    fault: CallFault,
    limits: Limits,
) -> Result<Report, HarnessError> {
    for _ in 0..TRIES {
        let report = lab.run(scenario, Some(FaultPoint { at: at.clone(), fault }), limits).await?;
        if report.triggered {
            return Ok(report);
        }
    }
    Err(HarnessError("the call was not made".to_owned()))
}

/// What the table says of it.
fn to_cell(report: Result<Report, HarnessError>, undisturbed: &FinalState) -> Cell {
    match report {
        Err(failure) => Cell::Differs(failure.0),
        Ok(report) => {
            let differences = report.final_state.differs_from(undisturbed);
            match (differences.is_empty(), report.recovered_after) {
                (true, Some(after)) => Cell::Recovered(after),
                (true, None) => Cell::AlreadyOver,
                (false, _) => Cell::Differs(differences.join("; ")),
            }
        }
    }
}

#[test]
fn the_table_matches_the_calls_and_a_sample_holds() {
    let stored_table = table::stored_table();
    with_lab(async |lab| {
        let sampled = SAMPLE.map(|(prefix, fault)| {
            let (scenario, call_site) = table::find(&stored_table, prefix)
                .unwrap_or_else(|| panic!("{RESULTS} has no row that begins with {prefix}: cargo crash-table"));
            let lab = Arc::clone(&lab);
            async move { (scenario, prefix, fault, triggered(&lab, scenario, &call_site, fault, SHORT).await) }
        });
        // Three times: what depends on how busy the machine is, is not so in all of them.
        let (sampled, [first, second, third]) = futures::join!(
            futures::future::join_all(sampled),
            futures::future::join_all([(); 3].map(|()| undisturbed(&lab))).map(|all| {
                <[Undisturbed; 3]>::try_from(all).unwrap_or_else(|_| unreachable!("three were asked for"))
            })
        );
        for (scenario, prefix, fault, report) in sampled {
            let cell = to_cell(report, &first[&scenario].final_state);
            println!("{prefix} {}: {cell:?}", fault.name());
            let Cell::Recovered(after) = cell else { panic!("{prefix} {}: {cell:?}", fault.name()) };
            // A lease is as long as the rest of the invocation that holds it, and not as long as leases may be.
            assert!(after < SHORT.time_out + TAKEOVER_MARGIN, "{prefix} {}: {after:?}", fault.name());
        }
        let runs = [first, second, third].map(|run| rows(&run));
        let lines: Vec<&str> = stored_table.lines().filter(|line| line.contains(" | `")).collect();
        for row in &runs[0] {
            let is_made = runs.iter().all(|run| run.iter().any(|it| it.call_site == row.call_site));
            let line = lines.iter().find(|line| line.starts_with(&row.call_site.row_prefix()));
            let Some(line) = line else {
                assert!(!is_made, "{RESULTS} has no row for {}: cargo crash-table", row.call_site);
                continue;
            };
            let mut row = row.clone();
            assert!(row.fill(line) && row.is_good(), "it does not end well, or was not run: {line}");
        }
        for line in lines {
            let is_made = runs.iter().flatten().any(|row| line.starts_with(&row.call_site.row_prefix()));
            assert!(is_made, "{RESULTS} tells of a call that is made no more: cargo crash-table\n{line}");
        }
    });
}

/// The driver dies right before it puts the weights back, with the template's time-outs, and the rollback's deadline is
/// over before its message is visible again.
#[test]
fn a_killed_rollback_is_taken_over_within_thirty_seconds() {
    let stored_table = table::stored_table();
    let prefix = "| rolling back, weights back | `elbv2:ModifyRule` |";
    let (scenario, call_site) =
        table::find(&stored_table, prefix).unwrap_or_else(|| panic!("{RESULTS} has no row {prefix}"));
    with_lab(async |lab| {
        let kills = [CallFault::KilledBefore, CallFault::KilledAfter]
            .map(|fault| triggered(&lab, scenario, &call_site, fault, DEPLOYED));
        let (reports, undisturbed) =
            futures::join!(futures::future::join_all(kills), lab.run(scenario, None, DEPLOYED));
        let undisturbed = expect_ok(undisturbed).final_state;
        for (report, fault) in reports.into_iter().zip([CallFault::KilledBefore, CallFault::KilledAfter]) {
            let cell = to_cell(report, &undisturbed);
            println!("{}: {cell:?}", fault.name());
            // The end is that of an undisturbed run: weights, tasks, what was borrowed, and the verdict.
            let Cell::Recovered(after) = cell else { panic!("{}: {cell:?}", fault.name()) };
            assert!(after < Duration::from_secs(30), "{}: {after:?}", fault.name());
        }
    });
}

fn write(rows: &[Row]) {
    if let Err(error) = std::fs::write(table::path(), table::text(rows)) {
        panic!("{RESULTS}: {error}");
    }
}

#[test]
#[ignore = "hundreds of deployments, many minutes; `cargo crash-table`"]
fn every_crash_recovers() {
    let wanted = std::env::var("CRASH").ok();
    let is_wanted = |row: &Row, column: usize| match wanted.as_deref() {
        None => true,
        Some("open") => !matches!(row.cells[column], Some(Cell::Recovered(_) | Cell::AlreadyOver)),
        Some(parts) => parts.split(',').any(|part| row.call_site.row_prefix().contains(part)),
    };
    let at_once = std::env::var("CRASHES_AT_ONCE").ok().and_then(|text| text.parse().ok()).unwrap_or(AT_ONCE);
    let stored_table = table::stored_table();
    with_lab(async |lab| {
        let first = Arc::new(undisturbed(&lab).await);
        let mut rows = rows(&first);
        for row in &mut rows {
            stored_table.lines().any(|line| row.fill(line));
        }
        let mut jobs = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            for (column, fault) in CallFault::ALL.into_iter().enumerate().filter(|(column, _)| is_wanted(row, *column))
            {
                jobs.push((index, column, row.scenario, row.call_site.clone(), fault));
            }
        }
        assert!(!jobs.is_empty() || wanted.as_deref() == Some("open"), "no row is like {wanted:?}");
        write(&rows);
        let all = jobs.len();
        let runs = jobs.into_iter().map(|(index, column, scenario, call_site, fault)| {
            let (lab, first) = (Arc::clone(&lab), Arc::clone(&first));
            async move {
                let run = async move {
                    to_cell(triggered(&lab, scenario, &call_site, fault, SHORT).await, &first[&scenario].final_state)
                };
                let cell = tokio::spawn(run);
                (index, column, cell.await.unwrap_or_else(|error| Cell::Differs(error.to_string())))
            }
        });
        let mut runs = futures::stream::iter(runs).buffer_unordered(at_once);
        let mut done = 0;
        while let Some((index, column, cell)) = runs.next().await {
            done += 1;
            println!("{done}/{all} {} {}: {cell:?}", rows[index].call_site.row_prefix(), CallFault::ALL[column].name());
            rows[index].cells[column] = Some(cell);
            write(&rows);
        }
        println!("\n{}", table::summary(&rows));
        let bad: Vec<String> = rows.iter().filter(|row| !row.is_good()).map(|row| row.call_site.row_prefix()).collect();
        assert!(bad.is_empty(), "these do not end well:\n{}", bad.join("\n"));
    });
}
