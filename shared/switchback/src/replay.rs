//! `replay`: repeats a driver's recorded decisions on this machine alone, without an account or a network.

use clap::Args;
use rollout::TargetId;
use rollout::recording::{RecordBody, Replay, ReplayedRecord, VERSION, read, replay};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use view::Paint;

/// Exit codes, as `switchback exit-codes` lists them.
const USAGE: u8 = 2;
/// A recording is read whole; a device has no end.
const MAX_RECORDING_BYTES: u64 = 1 << 30;
/// At least one decision differs; with `--strict`, also if records are missing.
pub(crate) const DIFFERENT: u8 = 7;

/// Help text on where the file comes from.
const AFTER_HELP: &str = "\
The file is what the stack's rollout-driver has logged, for example:
  aws logs filter-log-events --log-group-name /aws/lambda/STACK-rollout-driver \\
    --start-time $(date -d 'yesterday 03:00' +%s000) --end-time $(date -d 'yesterday 04:00' +%s000) \\
    --filter-pattern '{ $.message = \"decided\" && $.target_id = \"shop/api/prod\" }' > FILE
  switchback replay FILE

Exit codes: 0 decided again as it was recorded, 2 the file cannot be read, 7 decided otherwise";

/// Decide again what a driver recorded, and show the first difference; needs nothing but the file.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ReplayArguments {
    /// What the driver's log holds, as lines or as JSON of `aws logs`; `-` is standard input.
    file: PathBuf,
    /// Only this target: application/service/environment.
    #[arg(long, value_name = "TARGET")]
    target: Option<TargetId>,
    /// Only this deployment's number.
    #[arg(long, value_name = "NUMBER")]
    deployment: Option<u64>,
    /// Also print what was observed before each decision.
    #[arg(long)]
    seen: bool,
    /// Print only whether there is a difference, and the first one.
    #[arg(long)]
    quiet: bool,
    /// Count gaps in the file as differences.
    #[arg(long)]
    strict: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `switchback replay`
pub(crate) fn run(arguments: &ReplayArguments) -> ExitCode {
    match replayed(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            if arguments.json {
                let error = json!({"code": "usage", "message": message, "exit": USAGE});
                write(&format!("{}\n", json!({ "error": error })));
            }
            let _ = writeln!(std::io::stderr(), "switchback: {message}");
            ExitCode::from(USAGE)
        }
    }
}

fn replayed(arguments: &ReplayArguments) -> Result<u8, String> {
    let ReplayArguments { file, target, deployment, .. } = arguments;
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let bytes = bytes(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let parsed = read(&String::from_utf8_lossy(&bytes)).map_err(|message| format!("{name}, {message}"))?;
    if parsed.records.is_empty() {
        return Err(format!(
            "no recorded decision is in {name}: they stand in the log of the rollout-driver, in lines with the message \
             `decided`, while the stack's RecordDecisions is on"
        ));
    }
    let mut records = parsed.records;
    let all = records.len();
    records.retain(|record| {
        target.as_ref().is_none_or(|target| *target == record.target)
            && deployment.is_none_or(|number| Some(number) == record.deployment)
    });
    if records.is_empty() {
        return Err(format!("none of the {all} records in {name} is about what --target and --deployment name"));
    }
    let replay = replay(records);
    let (different, gaps) = (replay.different().count(), replay.gaps().count());
    let same = different == 0 && (gaps == 0 || !arguments.strict);
    if arguments.json {
        let text = serde_json::to_string_pretty(&document(&replay, same)).unwrap_or_default();
        write(&format!("{text}\n"));
    } else {
        print_text(&replay, arguments);
    }
    Ok(if same { 0 } else { DIFFERENT })
}

fn print_text(replay: &Replay, arguments: &ReplayArguments) {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let colourless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let plain = dumb || colourless || !std::io::stdout().is_terminal();
    let paint = if plain { Paint::PLAIN } else { Paint::COLOURED };
    if !arguments.quiet {
        write(&format!("{}\n", view::replay::decisions(replay, arguments.seen, paint)));
    }
    if replay.different().next().is_some() {
        write(&format!("{}\n", view::replay::first_difference(replay, paint)));
    }
    write(&view::replay::summary(replay, VERSION, paint));
}

fn document(replay: &Replay, same: bool) -> Value {
    let location = |rerun: &ReplayedRecord| {
        let record = &rerun.record;
        json!({
            "target": record.target, "deployment": record.deployment, "revision": record.revision, "pass": record.pass,
            "at": record.at, "version": record.version,
        })
    };
    let merged = |mut value: Value, more: Value| {
        if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
            value.extend(more);
        }
        value
    };
    let count = |wanted: fn(&RecordBody) -> bool| {
        replay.records.iter().filter(|it| it.now.is_some() && wanted(&it.record.body)).count()
    };
    let different: Vec<Value> = replay
        .different()
        .map(|it| {
            merged(location(it), json!({"acts_differently": it.acts_differently(), "differences": it.differences}))
        })
        .collect();
    let gaps: Vec<Value> = replay.gaps().map(|(it, gap)| merged(location(it), json!(gap))).collect();
    json!({
        "same": same,
        "version": VERSION,
        "decisions": count(|what| matches!(what, RecordBody::Decided(_))),
        "outcomes": count(|what| matches!(what, RecordBody::Performed(_))),
        "different": different,
        "remembered": replay.new_fields(),
        "gaps": gaps,
    })
}

fn bytes(file: &Path) -> std::io::Result<Vec<u8>> {
    let from: Box<dyn Read> =
        if file == Path::new("-") { Box::new(std::io::stdin().lock()) } else { Box::new(std::fs::File::open(file)?) };
    let mut bytes = Vec::new();
    from.take(MAX_RECORDING_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_RECORDING_BYTES {
        return Err(std::io::Error::other("it has more than 1 GiB: cut out the lines of one target"));
    }
    Ok(bytes)
}

fn write(text: &str) {
    // A reader that closed the pipe (`| head`) does not change the exit code.
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
