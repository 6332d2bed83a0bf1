//! What passes decided, in memory.

use engine::recorder::{Recorder, Wanted};
use rollout::TargetId;
use std::cell::RefCell;
use std::rc::Rc;

/// A handle on the lines: each pass has one.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) wanted: Wanted,
    lines: Rc<RefCell<Vec<String>>>,
}

impl Memory {
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }
}

impl Recorder for Memory {
    fn wanted(&self) -> Wanted {
        self.wanted
    }

    fn record(&self, _: &TargetId, _: Option<u64>, line: String) {
        self.lines.borrow_mut().push(line);
    }
}
