//! The product's `Cloud` on real wire protocols: the same checks before the wire front and before moto.
//!
//! moto is the second opinion on the shapes of requests: it parses them with code that nobody here wrote. Where it
//! lacks what a check needs (CloudWatch in CBOR, breakers, crashing tasks, Lambda without containers), the check is
//! the front's alone.

mod checks;
mod front_only;
mod garbage;
mod place;
mod with_front;
mod with_moto;

/// Hands the list of checks that hold before both to a macro.
macro_rules! checks {
    ($each:ident) => {
        $each! {
            weights_change_and_nothing_else_does,
            a_rule_that_is_missing_is_the_only_one_unknown,
            the_test_rule_moves_alone,
            a_rule_without_both_groups_is_put_right_on_the_way_back_alone,
            a_task_definition_is_copied_once,
            an_unknown_container_is_refused,
            a_service_is_updated,
            limits_are_borrowed_and_given_back,
            what_was_suspended_alone_comes_back_alone,
            a_side_without_a_scalable_target_is_refused_limits,
            a_service_that_is_missing_makes_its_side_unknown,
            a_task_is_run_and_stopped,
        }
    };
}

macro_rules! before_the_front {
    ($($check:ident),* $(,)?) => {
        $(
            // The place's own questions block a thread; the front runs on the other ones.
            #[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let place = with_front::place().await;
                checks::$check(&place.place).await;
                assert_eq!(place.front.surprises(), Vec::<String>::new());
            }
        )*
    };
}
checks!(before_the_front);

/// One moto for all checks: it takes seconds to start.
#[tokio::test]
async fn moto_agrees_with_the_shapes_of_requests() {
    let moto = with_moto::Moto::start();
    macro_rules! before_moto {
        ($($check:ident),* $(,)?) => {
            $(
                eprintln!("before moto: {}", stringify!($check));
                Box::pin(checks::$check(&moto.place(stringify!($check)).await)).await;
            )*
        };
    }
    checks!(before_moto);
}
