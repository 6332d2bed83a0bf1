//! Decision records of passes, in memory.

use engine::recorder::{Recorder, RecordingLevel};
use rollout::TargetId;
use std::cell::RefCell;
use std::rc::Rc;

/// A shared handle on the recorded lines; each pass has one.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryRecorder {
    pub(super) wanted: RecordingLevel,
    lines: Rc<RefCell<Vec<String>>>,
}

impl MemoryRecorder {
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }
}

impl Recorder for MemoryRecorder {
    fn wanted(&self) -> RecordingLevel {
        self.wanted
    }

    fn record(&self, _: &TargetId, _: Option<u64>, line: String) {
        self.lines.borrow_mut().push(line);
    }
}
