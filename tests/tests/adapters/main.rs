//! The product's `Cloud` on real wire protocols: the same checks before the wire front and before moto.
//!
//! moto is the second opinion on the shapes of requests: it parses them with code that nobody here wrote. Where it
//! lacks what a check needs (CloudWatch in CBOR, breakers, crashing tasks, Lambda without containers), the check is
//! the front's alone.

mod checks;
mod fixture;
mod front_only;
mod garbage;
mod with_front;
mod with_moto;

/// Hands the list of checks that hold before both to a macro.
macro_rules! checks {
    ($each:ident) => {
        $each! {
            setting_weights_changes_nothing_else,
            a_missing_rule_does_not_affect_the_others,
            the_test_rule_is_written_separately,
            a_missing_group_is_added_only_by_a_rollback,
            a_task_definition_is_copied_once,
            an_unknown_container_is_refused,
            the_newest_template_is_read_with_its_changes,
            a_version_in_another_family_is_registered_once,
            a_family_without_a_usable_template_is_unknown,
            a_service_is_updated,
            autoscaling_limits_are_borrowed_and_restored,
            each_suspension_flag_is_restored_separately,
            limits_on_a_side_without_a_scalable_target_are_refused,
            a_missing_service_makes_its_side_unknown,
            a_task_is_run_and_stopped,
        }
    };
}

macro_rules! against_the_front {
    ($($check:ident),* $(,)?) => {
        $(
            // The place's own questions block a thread; the front runs on the other ones.
            #[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let fixture = with_front::fixture().await;
                checks::$check(&fixture.fixture).await;
                assert_eq!(fixture.front.anomalies(), Vec::<String>::new());
            }
        )*
    };
}
checks!(against_the_front);

/// One moto for all checks: it takes seconds to start.
#[tokio::test]
async fn moto_agrees_with_the_shapes_of_requests() {
    let moto = with_moto::Moto::start();
    macro_rules! against_moto {
        ($($check:ident),* $(,)?) => {
            $(
                eprintln!("before moto: {}", stringify!($check));
                Box::pin(checks::$check(&moto.fixture(stringify!($check)).await)).await;
            )*
        };
    }
    checks!(against_moto);
}
