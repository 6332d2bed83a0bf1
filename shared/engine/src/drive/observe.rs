//! The reads of one observation: the inbox, AWS, the policy, and what is known beyond the target.

use super::*;

impl<L: DriverLedger, C: Cloud, D: WakeQueue, K: Clock, R: Recorder> Pass<'_, L, C, D, K, R> {
    /// Reads commands, brakes and AWS concurrently while a deployment runs; then what is needed to start a deployment.
    pub(super) async fn observe(&mut self, wake: &Wake) -> Result<DecisionInputs, LedgerError> {
        let now = self.clock.now();
        if self.state.running.is_none() {
            return self.observe_idle(wake, now).await;
        }
        let waits =
            self.state.running.as_ref().is_some_and(|running| rate_limiter::rate_limit_wait(running, now).is_some());
        let observation_plan = if self.performed.is_empty() {
            observation(&self.state)
        } else {
            observation_after(&self.state, &self.performed)
        };
        let (commands, snapshot, early_gate_context) = match observation_plan.filter(|_| !waits) {
            Some(observation_plan) => {
                let snapshot = self.cloud.observe(&observation_plan);
                let (commands, snapshot, gate_context) =
                    futures::future::join3(self.ledger.commands(self.target), snapshot, self.brakes_and_image()).await;
                (commands?, Some(Snapshot { read_started_at: Some(now), ..snapshot }), gate_context)
            }
            None => (self.ledger.commands(self.target).await?, None, None),
        };
        let (commands, policy) = self.with_policy(commands).await?;
        let gate_context = match (&policy, early_gate_context) {
            (Some(applied), early_gate_context) if self.may_start(&commands) => {
                let mut gate_context = self.gate_context(&commands, applied).await;
                let early = early_gate_context.unwrap_or_else(GateContext::empty);
                gate_context.images.extend(early.images);
                gate_context.template = gate_context.template.or(early.template);
                Some(gate_context)
            }
            (_, early_gate_context) => early_gate_context,
        };
        Ok(DecisionInputs { commands, snapshot, policy, gate_context })
    }

    /// The target is idle (no deployment is running): reads the commands and, if the wake or a command requires it, the live state.
    async fn observe_idle(&mut self, wake: &Wake, now: Timestamp) -> Result<DecisionInputs, LedgerError> {
        let commands = self.ledger.commands(self.target).await?;
        let asked = wake.idle && !std::mem::replace(&mut self.idle_look_done, true);
        let due = idle_observation_is_due(&self.state, &commands, now);
        let (commands, policy) = if asked || due {
            // Without a policy there is nothing to observe, and a command that needs one is refused with that reason.
            (commands, self.applied().await?)
        } else {
            self.with_policy(commands).await?
        };
        let observation_plan = policy
            .as_ref()
            .filter(|_| asked || due)
            .and_then(|applied| idle_observation(&self.state, &applied.policy, due || wake.api_call.is_some(), now));
        let observation_plan = match observation_plan {
            // A routine observation: yields to targets that need the API calls more.
            Some(observation_plan) if !due && wake.api_call.is_none() => {
                let api_cost = rate_limiter::idle_api_cost(&observation_plan);
                let queue_position = self.ledger.reserve_api_calls(&api_cost, now).await?;
                (!queue_position.low_rate && queue_position.at <= now).then_some(observation_plan)
            }
            observation_plan => observation_plan,
        };
        let snapshot = match observation_plan {
            Some(observation_plan) => {
                let snapshot = self.cloud.observe(&observation_plan).await;
                let api_call = wake.api_call.clone().filter(|_| asked);
                Some(Snapshot { read_started_at: Some(now), api_call, ..snapshot })
            }
            None => None,
        };
        let gate_context = match &policy {
            Some(applied) if self.may_start(&commands) => Some(self.gate_context(&commands, applied).await),
            // The sweep: whether a newer template waits.
            Some(applied) if snapshot.is_some() && applied.policy.template.family().is_some() => {
                Some(self.gate_context(&commands, applied).await)
            }
            _ => None,
        };
        Ok(DecisionInputs { commands, snapshot, policy, gate_context })
    }

    /// The target's current policy.
    async fn applied(&self) -> Result<Option<AppliedTarget>, LedgerError> {
        let Some(applied) = self.ledger.policy(&self.target.application).await? else { return Ok(None) };
        if let Some(reason) = applied.policy.unreadable(self.target) {
            return Err(LedgerError::Unreadable {
                what: format!("the policy of {}", self.target),
                reason: reason.to_owned(),
            });
        }
        Ok(applied.policy.applied(self.target, applied.version))
    }

    /// The brakes, if the next decision may start or widen a deployment; before a start, also whether its image exists.
    async fn brakes_and_image(&self) -> Option<GateContext> {
        let running = self.state.running.as_ref()?;
        if !running.needs_brakes() {
            return None;
        }
        let begins = running.stage() == Stage::Preflight;
        // In place, a rollback has to start the version before anew.
        let goes_back_by_image = running.policy.resources.platform.way() == Way::InPlace && !running.is_forward_only();
        let stable = self.state.stable.as_ref().and_then(|stable| stable.release.as_ref());
        let before = stable.filter(|_| begins && goes_back_by_image);
        let images = self.images(Some(&running.release).filter(|_| begins).into_iter().chain(before));
        let template = async {
            match begins && running.options.template.is_none() {
                true => gate_context::template(self.cloud, &running.policy, &self.state).await,
                false => None,
            }
        };
        let (brakes, images, template) =
            futures::future::join3(gate_context::brakes(self.ledger), images, template).await;
        Some(GateContext { brakes, images, template, ..GateContext::empty() })
    }

    /// The gate context. If approval is required, also whether the images to approve still exist.
    async fn gate_context(&self, commands: &[Command], applied: &AppliedTarget) -> GateContext {
        let gated = self.state.running.as_ref().filter(|running| running.stage() == Stage::Gated);
        let waits = gated.map(|running| &running.release);
        let waits = waits.into_iter().chain(self.state.queued.iter().map(|queued| &queued.release));
        let asked = commands.iter().filter_map(|command| match &command.instruction {
            Instruction::Deploy { release, image, .. } => Some((&release.digest, image.as_str())),
            _ => None,
        });
        let releases = waits.map(|release| (&release.id.digest, release.image.as_str())).chain(asked);
        let is_ready_for_approval = applied.entry.rules.approval.is_some();
        let images = gate_context::images(self.cloud, releases.filter(|_| is_ready_for_approval).collect());
        let gate_context = gate_context::load_for_target(self.ledger, &self.state, commands, applied);
        let template = gate_context::template(self.cloud, &applied.policy, &self.state);
        let (gate_context, images, template) = futures::future::join3(gate_context, images, template).await;
        GateContext { images, template, ..gate_context }
    }

    async fn images<'r>(
        &self,
        releases: impl Iterator<Item = &'r ReleaseRef>,
    ) -> BTreeMap<ImageDigest, Reading<ImageState>> {
        let releases = releases.map(|release| (&release.id.digest, release.image.as_str()));
        gate_context::images(self.cloud, releases.collect()).await
    }

    /// Whether a deployment may start or is waiting at its gates, or goes back with its train.
    fn may_start(&self, commands: &[Command]) -> bool {
        match &self.state.running {
            Some(running) if running.phase.is_waiting_to_start() => true,
            Some(_) => {
                let needs_it = |instruction: &Instruction| {
                    matches!(instruction, Instruction::Deploy { .. } | Instruction::StopTrain { .. })
                };
                commands.iter().any(|command| needs_it(&command.instruction))
            }
            None => !commands.is_empty() || !self.state.queued.is_empty(),
        }
    }

    /// The commands that can be decided, with the current policy if they may need it.
    async fn with_policy(
        &self,
        mut commands: Vec<Command>,
    ) -> Result<(Vec<Command>, Option<AppliedTarget>), LedgerError> {
        let gated = |running: &Deployment| running.stage() == Stage::Gated;
        match self.policy_if_needed(&commands).await {
            Ok(policy) => Ok((commands, policy)),
            // A running deployment keeps its original policy: ending it or rolling it back need not wait until the policy for the
            // next one can be read.
            Err(error) if self.state.running.as_ref().is_some_and(|running| !gated(running)) => {
                tracing::warn!(target_id = %self.target, "deploy commands wait: the policy could not be read: {error}");
                commands.retain(|command| !matches!(command.instruction, Instruction::Deploy { .. }));
                Ok((commands, None))
            }
            Err(error) => Err(error),
        }
    }

    /// The current policy, if a command waits or a deployment may start.
    async fn policy_if_needed(&self, commands: &[Command]) -> Result<Option<AppliedTarget>, LedgerError> {
        if commands.is_empty() && !self.may_start(commands) {
            return Ok(None);
        }
        self.applied().await
    }
}
