//! What is printed of an application when its test fails.

use super::{LiveWorkload, Scenario, WorldNames};
use rollout::Slot;

impl Drop for Scenario {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("--- the journal of {} ---", self.target());
        match self.operations().journal() {
            Ok(entries) => entries.iter().for_each(|entry| eprintln!("{} {:?}", entry.at, entry.fact)),
            Err(failure) => eprintln!("{failure}"),
        }
        match self.operations().status() {
            Ok(status) => eprintln!("--- its status ---\n{status:?}"),
            Err(failure) => eprintln!("{failure}"),
        }
        eprintln!("--- its world ---");
        match &self.names {
            WorldNames::Pair(_) => {
                let (blue, green) = (self.side(Slot::Blue), self.side(Slot::Green));
                eprintln!("{:?}, blue {blue:?}, green {green:?}", self.weights());
            }
            WorldNames::InPlace(names) => {
                eprintln!("{:?}", LiveWorkload::read(&mut self.stack.front().world(), names));
            }
        }
        let names: Vec<String> = self.names.alarms().into_iter().chain([self.manual_alarm()]).collect();
        let mut world = self.stack.front().world();
        for alarm in world.as_third_party(|world| world.describe_alarms(&names)).unwrap_or_default() {
            eprintln!("{} is {} since {}: {}", alarm.name, alarm.state.as_str(), alarm.state_updated_at, alarm.reason);
        }
        for group in self.names.target_groups() {
            eprintln!("{group}: {:?}", world.traffic().groups.get(group));
        }
        drop(world);
        eprintln!("--- its last calls ---");
        let calls = self.calls();
        calls[calls.len().saturating_sub(60)..].iter().for_each(|call| eprintln!("{call}"));
        for anomaly in self.stack.front().anomalies() {
            eprintln!("surprise: {anomaly}");
        }
        for function in crate::harness::packages::functions().unwrap_or_default() {
            let log = self.stack.function_log(&function).unwrap_or_else(|failure| failure.0);
            let lines: Vec<&str> =
                log.lines().filter(|line| line.contains(&self.application) || line.contains("ERROR")).collect();
            eprintln!("--- {function} ---\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}
