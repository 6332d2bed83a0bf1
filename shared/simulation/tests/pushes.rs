//! What is pushed, under which tags and to which registry, from the event to the verdict in virtual time.

use engine::intake::ImagePushed;
use rollout::journal::Fact;
use rollout::verdict::Verdict;
use rollout::{Registry, Seconds};
use simulation::virtual_time::{Faults, PushAnnouncement, Simulation};
use simulation::world::scene::digest_of;
use simulation::world::{PairSetup, Settings};

const HOUR: u64 = 3600;

fn simulation() -> Simulation {
    Simulation::new(PairSetup::new("shop", "api", "dev").build(Settings::default()), Faults::default())
}

/// Lets everything happen until so many deployments are over, and a while longer; answers what each brought and how it ended.
fn run_deployments(simulation: &mut Simulation, expected: usize) -> Vec<(String, Option<Verdict>)> {
    let ended_count = |simulation: &Simulation| {
        simulation.journal().iter().filter(|entry| matches!(entry.fact, Fact::Ended { .. })).count()
    };
    simulation.run_until_condition(HOUR, |simulation| ended_count(simulation) >= expected);
    simulation.run_for(900);
    let journal = simulation.journal();
    let started = journal.iter().filter_map(|entry| match &entry.fact {
        Fact::Started { digest, .. } => Some((entry.deployment, digest.clone())),
        _ => None,
    });
    let ended = |number| {
        journal.iter().find_map(|entry| match &entry.fact {
            Fact::Ended { verdict, .. } if entry.deployment == number => Some(*verdict),
            _ => None,
        })
    };
    started.map(|(number, digest)| (digest, ended(number))).collect()
}

fn succeeded(number: u64) -> (String, Option<Verdict>) {
    (digest_of(number).to_string(), Some(Verdict::Succeeded))
}

fn refusal_reasons(simulation: &Simulation) -> Vec<String> {
    let journal = simulation.journal();
    let reasons = journal.iter().filter_map(|entry| match &entry.fact {
        Fact::CommandRefused { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    reasons.collect()
}

/// Issue 10, case 9: the tag of the live release is moved back onto the one before.
#[test]
fn moving_a_tag_back_deploys_its_current_image() {
    for how in [PushAnnouncement::Event, PushAnnouncement::Silent] {
        let mut simulation = simulation();
        simulation.push(1, PushAnnouncement::Event);
        assert_eq!(run_deployments(&mut simulation, 1), [succeeded(1)]);
        simulation.push(2, PushAnnouncement::Event);
        assert_eq!(run_deployments(&mut simulation, 2), [succeeded(1), succeeded(2)]);
        simulation.tag(1, "v2", how);
        let all = [succeeded(1), succeeded(2), succeeded(1)];
        assert_eq!(run_deployments(&mut simulation, 3), all, "{}", simulation.journal_text());
        let journal = simulation.journal();
        let why = journal.iter().rev().find_map(|entry| match &entry.fact {
            Fact::Started { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert!(why.is_some_and(|why| why.contains("v2")), "{}", simulation.journal_text());
    }
}

/// Issue 10, case 10: one build has several tags, and the last of them comes when it is deployed already.
#[test]
fn several_tags_of_one_image_deploy_once() {
    let mut simulation = simulation();
    simulation.push(1, PushAnnouncement::Event);
    simulation.run_for(2);
    simulation.tag(1, "v1.4", PushAnnouncement::Event);
    assert_eq!(run_deployments(&mut simulation, 1), [succeeded(1)]);
    simulation.tag(1, "v1.4.0", PushAnnouncement::Event);
    assert_eq!(run_deployments(&mut simulation, 1), [succeeded(1)], "{}", simulation.journal_text());
    assert_eq!(refusal_reasons(&simulation), [""; 0], "nobody asked for anything that could be refused");
    let recorded_tags: Vec<String> = simulation
        .journal()
        .iter()
        .filter_map(|entry| match &entry.fact {
            Fact::ReleaseNamed { tag, .. } => Some(tag.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(recorded_tags, ["v1.4", "v1.4.0"], "{}", simulation.journal_text());
}

/// Issue 10, case 15: an event of account 999999999999 in us-west-2.
#[test]
fn a_push_to_an_unknown_registry_is_ignored() {
    let mut simulation = simulation();
    let foreign = ImagePushed {
        registry: Registry { account: "999999999999".to_owned(), region: "us-west-2".to_owned() },
        repository: simulation.names().repository.clone(),
        digest: digest_of(7),
        tag: "v7".to_owned(),
        pushed_at: Seconds(0).after(simulation.now()),
    };
    simulation.push_event(foreign);
    simulation.run_for(1200);
    assert_eq!(simulation.journal().len(), 0, "{}", simulation.journal_text());
}
