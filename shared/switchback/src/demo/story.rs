//! The demo's story: v1 runs, v2 is good and goes out, v3 is bad and comes back. And what must have come of it.

use super::narrator::{Narrator, Voice};
use super::portrait::{Portrait, Told, grouped};
use super::rounds::{Timers, WallClock, answer};
use super::scene::{self, BAD, FIRST, GOOD, PARTS, Part, Scene};
use super::site::Site;
use super::tally::{Tally, Totals};
use super::web::{self, Drawn};
use super::{DemoArguments, clients};
use anyhow::{Context as _, bail};
use engine::intake::image_pushed;
use engine::{Clock as _, Ledger as _, Wake};
use rollout::stage::Verdict;
use rollout::target::DeploymentRecord;
use rollout::{Fact, JournalEntry, Slot};
use serde::Serialize;
use simulation::LiveCloud;
use simulation::ledger::MemoryLedger;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use view::journal::{Tone, verdict_words};
use view::page::{Chapter, share_of_blue};

/// Requests a second.
const RATE: u32 = 200;

/// Between two looks at how far a chapter is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// v1 is shown alone for this long, and so is what runs after each chapter.
const STEADY: Duration = Duration::from_secs(5);

/// A chapter that takes longer has gone wrong; the policy's own deadlines end it earlier.
const LONGEST_CHAPTER: Duration = Duration::from_secs(150);

/// Journal entries of one run at most.
const WHOLE_JOURNAL: usize = 1000;

/// How the story ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it was told: both verdicts, and nothing lost.
    AsTold,
    /// Not so; the summary says what.
    Otherwise,
    /// Somebody ended it.
    Interrupted,
}

/// What came of the story: printed, and the last line of `--json`.
#[derive(Debug, Clone, Serialize)]
struct Summary {
    /// Each deployment, oldest first.
    deployments: Vec<Outcome>,
    /// From the alarm to all traffic back in every node of the balancer, in milliseconds.
    alarm_to_traffic_back_ms: Option<u64>,
    /// What the clients saw.
    requests: Totals,
    /// Answers that the balancer had to make itself.
    made_by_balancer: u64,
    /// The whole run, in seconds.
    seconds: f64,
    /// What is not as it was told; empty: all is.
    problems: Vec<String>,
}

/// What came of one deployment.
#[derive(Debug, Clone, Serialize)]
struct Outcome {
    /// The release's tag.
    release: String,
    /// How it ended.
    verdict: Option<Verdict>,
    /// Why, for people.
    reason: String,
    /// The candidate's shares of traffic that were seen live, in order.
    shares: Vec<u8>,
    /// From its beginning to its verdict, in seconds.
    seconds: f64,
}

/// All that the story is told with.
struct Demo {
    ledger: Arc<MemoryLedger>,
    wake_queue: Timers,
    clock: WallClock,
    site: Arc<Site>,
    tally: Arc<Tally>,
    portrait: Arc<Portrait>,
    voice: Voice,
    scene: Scene,
    front: SocketAddr,
}

/// The load while it runs.
struct Load {
    stop: watch::Sender<bool>,
    sending: JoinHandle<()>,
}

/// Plays the story to its end. No process and no task is left running when this returns.
pub(crate) async fn play(arguments: DemoArguments) -> anyhow::Result<Ending> {
    let page = TcpListener::bind(("127.0.0.1", arguments.port))
        .await
        .with_context(|| format!("the page cannot have port {} of 127.0.0.1", arguments.port))?;
    let front = TcpListener::bind("127.0.0.1:0").await.context("the balancer can have no port of 127.0.0.1")?;
    let page_address = page.local_addr()?;
    let (demo, arriving) = Demo::set_up(Voice::new(arguments.json), front.local_addr()?).await?;
    demo.voice.say(&format!("live page   http://{page_address}/"));
    demo.voice.say(&format!("balancer    http://{}/   ({RATE} requests a second are sent to it)", demo.front));

    let (end, ended) = watch::channel(false);
    let keeping = {
        let (site, ledger, wake_queue) = (demo.site.clone(), demo.ledger.clone(), demo.wake_queue.clone());
        tokio::spawn(async move { site.keep(&*ledger, &wake_queue, ended).await })
    };
    let driving = {
        let (ledger, wake_queue, world) = (demo.ledger.clone(), demo.wake_queue.clone(), demo.scene.world.clone());
        tokio::spawn(async move {
            let cloud = LiveCloud::new(world);
            answer(arriving, wake_queue, &*ledger, &cloud, &WallClock::default()).await;
        })
    };
    let balancing = tokio::spawn(demo.site.balancer().clone().serve(front));
    let (pictures, picture) = watch::channel(Drawn::from(*b"null"));
    let showing = tokio::spawn(web::serve(page, picture));

    let ending = tokio::select! {
        ending = demo.tell(&arguments, pictures) => ending,
        () = interrupted() => Ok(Ending::Interrupted),
    };
    if let Ok(Ending::Interrupted) = ending {
        demo.voice.say("interrupted: the tasks are being ended");
    }
    // Tasks finish what they have in flight, and end.
    let _ = end.send(true);
    keeping.await.context("the tasks ended badly")?;
    for task in [driving, balancing, showing] {
        task.abort();
    }
    ending
}

impl Demo {
    async fn set_up(voice: Voice, front: SocketAddr) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<Wake>)> {
        let clock = WallClock::default();
        let scene = scene::build(clock.now())?;
        let ledger = Arc::new(MemoryLedger::new());
        ledger
            .apply(&scene.policy, &scene.policy_text, clock.now(), "demo")
            .await
            .context("the demo's policy could not be applied")?;
        let (wake_queue, arriving) = Timers::new();
        let site = Site::new(scene.world.clone(), scene.pair.clone(), scene::images());
        let bad = PARTS.iter().filter(|part| part.fail_percent > 0).map(|part| part.tag.to_owned());
        let tally = Arc::new(Tally::new(bad.collect()));
        let chapter =
            |part: Part| Chapter { name: part.chapter.to_owned(), outcome: "to come".to_owned(), tone: Tone::Plain };
        let told = Told {
            headline: format!("{} is starting", FIRST.tag),
            tone: Tone::Plain,
            chapters: PARTS.map(chapter).into(),
        };
        let portrait = Portrait::new(scene.target.clone(), clock.now(), site.clone(), tally.clone(), told);
        let portrait = Arc::new(portrait);
        Ok((Self { ledger, wake_queue, clock, site, tally, portrait, voice, scene, front }, arriving))
    }

    /// The chapters, then the summary, and with `--keep` whatever comes after.
    async fn tell(&self, arguments: &DemoArguments, pictures: watch::Sender<Drawn>) -> anyhow::Result<Ending> {
        let narrator = Narrator {
            ledger: self.ledger.clone(),
            target: self.scene.target.clone(),
            portrait: self.portrait.clone(),
            tally: self.tally.clone(),
            voice: self.voice.clone(),
            json: arguments.json,
            pictures,
            told: 0,
        };
        let (hush, hushed) = watch::channel(false);
        let telling = tokio::spawn(narrator.tell(hushed));

        self.opening().await?;
        let load = self.send_load();
        tokio::time::sleep(STEADY).await;
        self.close(0, "stable", Tone::Good);
        let mut problems = Vec::new();
        for (index, part) in PARTS.iter().enumerate().skip(1) {
            problems.extend(self.chapter(index, part).await?);
        }
        // Every request that was sent is waited for before anything is counted.
        load.end().await?;
        let _ = hush.send(true);
        let narrator = telling.await.context("the narrator ended badly")?.context("the journal cannot be read")?;
        let summary = self.summary(problems).await?;
        self.print(&summary, arguments.json);

        if arguments.keep {
            self.voice.say("\nservice and page stay up until Ctrl-C");
            let (_hush, hushed) = watch::channel(false);
            let _telling = tokio::spawn(narrator.tell(hushed));
            let _load = self.send_load();
            interrupted().await;
        }
        Ok(if summary.problems.is_empty() { Ending::AsTold } else { Ending::Otherwise })
    }

    fn send_load(&self) -> Load {
        let (stop, stopped) = watch::channel(false);
        Load { stop, sending: tokio::spawn(clients::send(self.front, RATE, self.tally.clone(), stopped)) }
    }

    /// Waits until v1 carries all traffic with healthy tasks.
    async fn opening(&self) -> anyhow::Result<()> {
        self.begin(0, &format!("{} is starting", FIRST.tag));
        let up = async {
            loop {
                let tasks = self.site.tasks();
                if !tasks.is_empty() && tasks.iter().all(|task| task.state == "healthy") {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(LONGEST_CHAPTER, up).await.context("the first release's tasks do not become healthy")?;
        self.headline(&format!("{} carries all traffic", FIRST.tag), Tone::Plain);
        Ok(())
    }

    /// Pushes a release and waits for the verdict; answers what is not as it should be.
    async fn chapter(&self, index: usize, part: &Part) -> anyhow::Result<Vec<String>> {
        let words = if part.fail_percent > 0 {
            format!("{} is pushed: it answers {} of 100 requests with 500", part.tag, part.fail_percent)
        } else {
            format!("{} is pushed: a good release", part.tag)
        };
        self.begin(index, &words);
        let now = self.clock.now();
        let pushed = self.scene.push(part, now);
        let intake = image_pushed(&*self.ledger, &self.wake_queue, &pushed, &pushed.registry, now).await;
        let intake = intake.context("the push got lost")?;
        if intake.services.is_empty() {
            bail!("the policy has no service for the repository that {} was pushed to", part.tag);
        }
        let Ok(record) = tokio::time::timeout(LONGEST_CHAPTER, self.ended(index)).await else {
            let waits = self.waits().await?;
            self.close(index, "did not end", Tone::Bad);
            return Ok(vec![format!("{} did not end within {LONGEST_CHAPTER:?}: {waits}", part.tag)]);
        };
        let record = record?;
        let verdict = record.verdict;
        let word = verdict.map_or("without a verdict", verdict_words);
        let as_told = verdict == part.ends;
        let tone = if as_told { Tone::Good } else { Tone::Bad };
        self.close(index, word, tone);
        let carries = self.carrier().unwrap_or_else(|| "neither side".to_owned());
        self.headline(&format!("{} {word}: {carries} carries all traffic", part.tag), tone);
        tokio::time::sleep(STEADY).await;

        let mut problems = Vec::new();
        if !as_told {
            let wanted = part.ends.map_or("no verdict", verdict_words);
            problems.push(format!("{}: {word} instead of {wanted}: {}", part.tag, record.reason));
        }
        // After v2 and after v3 it is v2 that is to carry everything.
        if carries != GOOD.tag {
            problems.push(format!("{} carries all traffic after {}, instead of {}", carries, part.tag, GOOD.tag));
        }
        Ok(problems)
    }

    /// Waits for the end of the `number`th deployment.
    async fn ended(&self, number: usize) -> anyhow::Result<DeploymentRecord> {
        loop {
            let history = self.ledger.history(&self.scene.target, PARTS.len()).await?;
            let ours = history.into_iter().find(|record| usize::try_from(record.number) == Ok(number));
            if let Some(record) = ours.filter(|record| record.ended_at.is_some()) {
                return Ok(record);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn waits(&self) -> anyhow::Result<String> {
        let now = self.clock.now();
        let state = self.ledger.state(&self.scene.target).await?;
        let waits = state.map(|state| state.explanation.waiting_on).unwrap_or_default();
        let words: Vec<_> = waits.iter().map(|on| view::waiting(on, now)).collect();
        Ok(if words.is_empty() { "it waits for nothing".to_owned() } else { words.join("; ") })
    }

    /// The release on the side that carries everything by the live weights.
    fn carrier(&self) -> Option<String> {
        let slot = self.site.weights().only()?;
        self.site.tasks().into_iter().find(|task| task.slot == slot).map(|task| task.release)
    }

    fn begin(&self, index: usize, words: &str) {
        self.voice.heading(words);
        self.portrait.tell(|told| {
            told.headline = words.to_owned();
            told.tone = Tone::Plain;
            if let Some(chapter) = told.chapters.get_mut(index) {
                chapter.outcome = "now".to_owned();
            }
        });
    }

    fn close(&self, index: usize, outcome: &str, tone: Tone) {
        self.portrait.tell(|told| {
            if let Some(chapter) = told.chapters.get_mut(index) {
                (chapter.outcome, chapter.tone) = (outcome.to_owned(), tone);
            }
        });
    }

    fn headline(&self, words: &str, tone: Tone) {
        self.portrait.tell(|told| (told.headline, told.tone) = (words.to_owned(), tone));
    }

    async fn summary(&self, mut problems: Vec<String>) -> anyhow::Result<Summary> {
        let target = &self.scene.target;
        let mut history = self.ledger.history(target, PARTS.len()).await?;
        history.reverse();
        let journal = self.ledger.journal(target, 0, WHOLE_JOURNAL).await?;
        let requests = self.tally.totals();
        if requests.lost > 0 {
            problems.push(format!("{} requests were lost to the shift itself", requests.lost));
        }
        if requests.bad_release_errors == 0 {
            problems.push(format!("{} never answered with an error: nothing was shown", BAD.tag));
        }
        let took = self.portrait.slot_of(BAD.tag).and_then(|slot| self.site.alarm_to_last_request_of(slot));
        Ok(Summary {
            deployments: history.iter().map(|record| outcome(record, &journal)).collect(),
            alarm_to_traffic_back_ms: took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            requests,
            made_by_balancer: self.site.balancer().own_answers(),
            seconds: self.voice.elapsed().as_secs_f64(),
            problems,
        })
    }

    fn print(&self, summary: &Summary, json: bool) {
        let Summary { requests, .. } = summary;
        let mut terminal = self.voice.terminal();
        terminal.heading("What came of it");
        for outcome in &summary.deployments {
            let word = outcome.verdict.map_or("without a verdict", verdict_words);
            let shares: Vec<_> = outcome.shares.iter().map(u8::to_string).collect();
            let shares = shares.join(" → ");
            terminal.say(&format!("  {:<18}{word}, {shares} % in {:.0} s", outcome.release, outcome.seconds));
        }
        if let Some(took) = summary.alarm_to_traffic_back_ms {
            let what = format!("{took} ms from the alarm to the last request sent to {}", BAD.tag);
            terminal.say(&format!("  {:<18}{what}", "way back"));
        }
        let served = format!(
            "{} sent, {} answered well, {} were {}'s own errors",
            grouped(requests.requests),
            grouped(requests.good),
            grouped(requests.bad_release_errors),
            BAD.tag
        );
        terminal.say(&format!("  {:<18}{served}", "requests"));
        let lost = format!("{} of {}", requests.lost, grouped(requests.requests));
        let lost = terminal.paint(if requests.lost == 0 { "32" } else { "31" }, &lost);
        terminal.say(&format!("  {:<18}{lost}", "lost to the shift"));
        for loss in &requests.losses {
            terminal.say(&format!("  {:<18}{loss}", ""));
        }
        for problem in &summary.problems {
            let line = terminal.paint("31", &format!("  not as told: {problem}"));
            terminal.say(&line);
        }
        drop(terminal);
        if json && let Ok(line) = serde_json::to_string(&SummaryLine { summary }) {
            // A reader that went away changes nothing about the verdict.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

/// The last line of `--json`.
#[derive(Serialize)]
struct SummaryLine<'a> {
    summary: &'a Summary,
}

impl Load {
    /// Ends the load once every answer has come.
    async fn end(self) -> anyhow::Result<()> {
        let _ = self.stop.send(true);
        self.sending.await.context("the clients ended badly")
    }
}

fn outcome(record: &DeploymentRecord, journal: &[JournalEntry]) -> Outcome {
    let mine = || journal.iter().filter(|entry| entry.deployment == Some(record.number));
    let candidate = mine().find_map(|entry| match &entry.fact {
        Fact::SidesSettled { candidate, .. } => Some(*candidate),
        _ => None,
    });
    let shares = mine().filter_map(|entry| match (&entry.fact, candidate) {
        (Fact::WeightsVerified { weights }, Some(Slot::Blue)) => Some(share_of_blue(*weights)),
        (Fact::WeightsVerified { weights }, Some(Slot::Green)) => Some(100 - share_of_blue(*weights)),
        _ => None,
    });
    let ended = record.ended_at.unwrap_or(record.started_at);
    let milliseconds = ended.as_millisecond() - record.started_at.as_millisecond();
    Outcome {
        release: record.release.tag.clone(),
        verdict: record.verdict,
        reason: record.reason.clone(),
        shares: shares.collect(),
        seconds: milliseconds as f64 / 1000.0,
    }
}

/// Waits for Ctrl-C, or for being told to end.
async fn interrupted() {
    let told = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = told => {}
    }
}
