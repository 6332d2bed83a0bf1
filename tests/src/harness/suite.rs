//! Runs the end-to-end tests of a target, and then checks what only all of them together can show.

use super::permissions::Suite;
use super::stack::stack;
use libtest_mimic::{Arguments, Trial};

/// The default of `--test-threads`, more than the machine has cores: these tests wait for tasks and holds.
const AT_ONCE: usize = 8;

/// A test's name and its function, which panics where the test fails.
pub type Test = (&'static str, fn());

/// Runs the tests that the command line asks for, looks for problems of the stack that they share, and exits: with 101
/// where a test failed or there are problems.
pub fn run(suite: Suite, tests: &[Test]) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let trials = tests.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let mut problems = if conclusion.num_passed == 0 { Vec::new() } else { stack().find_problems() };
    // Only a complete run uses every permission of the roles.
    if conclusion.num_filtered_out + conclusion.num_ignored + conclusion.num_failed == 0 && conclusion.num_passed > 0 {
        problems.extend(stack().unused_permissions(suite));
    }
    if problems.is_empty() {
        conclusion.exit();
    }
    eprintln!(
        "something was called that nobody here speaks, was given up on, or is allowed for nothing:\n{}",
        problems.join("\n")
    );
    std::process::exit(101);
}
