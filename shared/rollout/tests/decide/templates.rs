//! The owners' own task definitions: where everything of a version but its image comes from, and newer configuration.

use super::fixture::{TargetFixture, deploy, policy};
use rollout::entry::ApprovalPolicy;
use rollout::promotion::GateContext;
use rollout::template::{ConfigurationTrigger, TemplateChange, TemplateReading, TemplateSource};
use rollout::{Command, Effect, Fact, Instruction, Name, Next, Reading, Seconds, Slot, Verdict};

fn template(number: u32) -> TemplateReading {
    let change = TemplateChange {
        field: "cpu".to_owned(),
        before: Some("256".to_owned()),
        after: Some(format!("{}", 256 * number)),
    };
    TemplateReading::new(format!("family:{number}"), if number == 1 { vec![] } else { vec![change] })
}

fn with_family() -> TargetFixture {
    let mut policy = policy();
    policy.template = TemplateSource::Family("family".to_owned());
    let mut fixture = TargetFixture::with(policy);
    fixture.gate_context = newest(1);
    fixture
}

fn newest(number: u32) -> GateContext {
    GateContext { template: Some(Reading::Known(template(number))), ..GateContext::empty() }
}

fn configuration() -> Command {
    let mut command = deploy("v1");
    command.id = rollout::CommandId(format!("configuration-{}", command.id.0));
    if let Instruction::Deploy { options, .. } = &mut command.instruction {
        options.configuration = true;
    }
    command
}

fn registered(fixture: &TargetFixture) -> Vec<(String, Option<String>)> {
    let registered = |effect: &Effect| match effect {
        Effect::RegisterVersion { template, family, .. } => Some((template.clone(), family.clone())),
        _ => None,
    };
    fixture.effects.iter().filter_map(registered).collect()
}

#[test]
fn a_version_is_made_of_the_newest_template() {
    let mut fixture = with_family();
    fixture.run("v1");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(registered(&fixture), [("family:1".to_owned(), Some("family-switchback".to_owned()))]);
    assert_eq!(fixture.state.stable.clone().unwrap().template.as_deref(), Some("family:1"));
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::TemplateChosen { .. })));
}

#[test]
fn newer_configuration_goes_out_with_the_same_image_and_comes_back() {
    let mut fixture = with_family();
    fixture.run("v1");
    let before = fixture.state.stable.clone().unwrap();
    fixture.gate_context = newest(2);
    fixture.effects.clear();
    fixture.decide(&[configuration()]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(registered(&fixture)[0].0, "family:2");
    let stable = fixture.state.stable.clone().unwrap();
    assert_eq!((stable.template.as_deref(), stable.slot), (Some("family:2"), before.slot.map(Slot::other)));
    assert_eq!(stable.release, before.release, "the same image");

    fixture.decide(&[super::fixture::new_command(Instruction::Rollback, "r1")]);
    fixture.run_until(|_| false);
    let back = fixture.state.stable.clone().unwrap();
    assert_eq!((back.template.as_deref(), back.version), (Some("family:1"), before.version), "image and template");
}

#[test]
fn without_a_newer_template_nothing_is_done() {
    let mut fixture = with_family();
    fixture.run("v1");
    fixture.effects.clear();
    fixture.decide(&[configuration()]);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    assert!(fixture.effects.is_empty(), "{:?}", fixture.effects);
}

#[test]
fn an_unreadable_template_holds_the_start_and_is_read_again() {
    let mut fixture = with_family();
    fixture.gate_context.template = Some(Reading::Unknown("throttled".to_owned()));
    fixture.decide(&[deploy("v1")]);
    fixture.run_until(|fixture| fixture.now > Seconds(60).after(super::fixture::start()));
    assert_eq!(fixture.stage(), "preflight");
    assert!(registered(&fixture).is_empty());
    fixture.gate_context = newest(3);
    fixture.run_until(|_| false);
    assert_eq!(registered(&fixture)[0].0, "family:3");
}

#[test]
fn what_was_approved_is_what_is_deployed() {
    let mut fixture = with_family();
    fixture.applied.entry.rules.approval = Some(ApprovalPolicy {
        required: 1,
        from: vec![Name::new("bob").unwrap()],
        expires: Seconds(3600),
        default: rollout::entry::ApprovalDefault::Reject,
    });
    fixture.decide(&[deploy("v1")]);
    fixture.decide(&[]);
    let plan = |fixture: &TargetFixture| fixture.state.running.as_ref().unwrap().gates.as_ref().unwrap().plan.clone();
    let first = plan(&fixture);
    fixture.decide(&[]);
    assert_eq!(plan(&fixture), first, "the same template is the same plan");
    fixture.gate_context = newest(2);
    fixture.decide(&[]);
    assert_ne!(plan(&fixture), first, "another template is another plan");
    assert!(fixture.journal_has(|fact| matches!(fact, Fact::PlanChanged { .. })));
    // It was approved, and a newer one comes before it has begun to register: that of the plan is taken.
    let running = fixture.state.running.as_mut().unwrap();
    assert_eq!(running.options.template.as_ref().map(|template| template.version.as_str()), Some("family:2"));
}

/// A look at the idle target, as the sweep has it.
fn sweep(fixture: &mut TargetFixture) -> Next {
    let seen = fixture.seen();
    fixture.decide_on(&[], Some(seen))
}

#[test]
fn the_sweep_reports_a_newer_template_once() {
    let mut fixture = with_family();
    fixture.run("v1");
    fixture.gate_context = newest(2);
    for _ in 0..3 {
        sweep(&mut fixture);
    }
    let reports = fixture.journal.iter().filter(|entry| matches!(entry.fact, Fact::TemplateFound { .. })).count();
    assert_eq!((reports, fixture.state.running.is_some()), (1, false));
    let newer = fixture.state.idle.as_ref().and_then(|idle| idle.newer_template.clone());
    assert_eq!(newer.map(|newer| newer.version).as_deref(), Some("family:2"));
}

#[test]
fn the_sweep_deploys_it_where_the_policy_says_so_and_not_again_once_it_failed() {
    let mut fixture = with_family();
    fixture.applied.policy.configuration = ConfigurationTrigger::Automatic;
    fixture.run("v1");
    fixture.gate_context = newest(2);
    sweep(&mut fixture);
    fixture.run_until(|fixture| fixture.stage() == "baking");
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "{}", fixture.end_reason());
    fixture.alarm(rollout::snapshot::AlarmReading::Ok);
    sweep(&mut fixture);
    assert_eq!(fixture.state.running, None, "it failed here");
    fixture.gate_context = newest(3);
    sweep(&mut fixture);
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
    assert_eq!(fixture.state.stable.clone().unwrap().template.as_deref(), Some("family:3"));
}

#[test]
fn a_configuration_that_a_person_ended_or_rolled_back_is_not_deployed_again_by_itself() {
    for (until, instruction, verdict) in [
        ("baking", Instruction::Abort { deployment: None }, Verdict::Cancelled),
        ("", Instruction::Rollback, Verdict::Succeeded),
    ] {
        let mut fixture = with_family();
        fixture.applied.policy.configuration = ConfigurationTrigger::Automatic;
        fixture.run("v1");
        fixture.gate_context = newest(2);
        sweep(&mut fixture);
        fixture.run_until(|fixture| fixture.state.running.is_some() && fixture.stage() == until);
        fixture.decide(&[super::fixture::new_command(instruction, "r1")]);
        fixture.run_until(|_| false);
        assert_eq!(fixture.verdict(), Some(verdict), "{}", fixture.end_reason());
        fixture.state.promotion_hold = None;
        sweep(&mut fixture);
        sweep(&mut fixture);
        assert_eq!(fixture.state.running, None, "a person has decided against it");
        assert_eq!(fixture.state.stable.clone().unwrap().template.as_deref(), Some("family:1"));
    }
}
