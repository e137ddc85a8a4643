//! All groups of a log behind one lock, and members who wait for their turn.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    Generation, GroupEvent, Member, MemberId, Membership, Subscription,
    state::{self, Group, TopicSizes},
};
use crate::{Error, ErrorKind, GroupId, Log, Positions, Result, Signal, TopicPartition, TopicSpec};

/// Shares partitions out among the members of each group, within one process. Material for implementations of
/// [`Log::join`](crate::Log::join).
///
/// A log tells it of its topics, and asks it before it takes positions of a member.
#[derive(Debug, Default)]
pub struct Coordinator {
    state: Mutex<State>,
    changed: Signal,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<GroupId, Group>,
    topics: TopicSizes,
    last_member: u64,
}

impl Coordinator {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way, so a poisoned lock still holds a sound value.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which topics there are now. Groups that read one that came, grew or went share out anew; their members hear of
    /// it by [`Coordinator::wake`].
    pub fn set_topics<'a>(&self, topics: impl IntoIterator<Item = &'a TopicSpec>) {
        let size = |spec: &TopicSpec| (spec.name.clone(), spec.partitions.get());
        let topics = topics.into_iter().map(size).collect();
        let state = &mut *self.lock();
        for group in state.groups.values_mut() {
            group.topics_changed(&state.topics, &topics);
        }
        state.topics = topics;
    }

    /// Has members look around. Not to be called under a lock of the log: whoever is woken may want it.
    pub fn wake(&self) {
        self.changed.raise();
    }

    /// Whether positions of a member may be committed; to be asked in the moment that decides about the commit.
    ///
    /// # Errors
    /// `Fenced` when it is no member any more, or a partition is not its own.
    pub fn check<'a>(
        &self,
        group: &GroupId,
        membership: Membership,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<()> {
        let state = self.lock();
        let checked = match state.groups.get(group) {
            Some(group) => group.check(membership, partitions),
            None => Err(state::fenced(membership.member)),
        };
        checked.map_err(|e| e.context(format!("group {group}")))
    }

    /// A new member of `group`, of the log `log`.
    ///
    /// Between the moment in which a member loses a partition and the one in which the next owner reads where it stood, a
    /// commit of the former may be on its way. So a partition is given when what was decided before can be read: behind a
    /// commit of no positions.
    ///
    /// # Errors
    /// `Invalid` when its assignor is not that of the others.
    pub fn join(
        self: &Arc<Self>,
        group: &GroupId,
        subscription: &Subscription,
        log: impl Log,
    ) -> Result<Box<dyn Member>> {
        let id = {
            let state = &mut *self.lock();
            let id = MemberId(state.last_member + 1);
            let joined = state.groups.entry(group.clone()).or_default().join(id, subscription, &state.topics);
            joined.map_err(|e| e.context(format!("group {group}")))?;
            state.last_member = id.0;
            id
        };
        self.wake();
        let coordinator = Arc::clone(self);
        Ok(Box::new(LocalMember { coordinator, group: group.clone(), id, log: Box::new(log) }))
    }

    /// The members of a group have nothing more to wait for.
    pub fn close(&self) {
        self.changed.close();
    }

    /// What the member is to be told, and the group's version then.
    fn event(&self, member: &LocalMember) -> (Option<GroupEvent>, u64) {
        let state = self.lock();
        match state.groups.get(&member.group) {
            Some(group) => (group.event(member.id), group.version),
            None => (Some(GroupEvent::Evicted), 0),
        }
    }

    /// Takes note that the member was told, unless something has changed since `version`.
    fn told(&self, member: &LocalMember, event: &GroupEvent, version: u64) -> bool {
        let mut state = self.lock();
        match state.groups.get_mut(&member.group) {
            Some(group) if group.version == version => {
                group.told(member.id, event);
                true
            }
            group => group.is_none() && *event == GroupEvent::Evicted,
        }
    }
}

struct LocalMember {
    coordinator: Arc<Coordinator>,
    group: GroupId,
    id: MemberId,
    log: Box<dyn Log>,
}

#[async_trait]
impl Member for LocalMember {
    fn membership(&self) -> Membership {
        let state = self.coordinator.lock();
        let generation = state.groups.get(&self.group).map(|group| group.generation_of(self.id));
        Membership { member: self.id, generation: generation.unwrap_or(Generation(0)) }
    }

    async fn next(&self) -> Result<GroupEvent> {
        loop {
            let seen = self.coordinator.changed.count();
            let (event, version) = self.coordinator.event(self);
            match event {
                Some(event) => {
                    if matches!(event, GroupEvent::Assigned(_)) {
                        self.log.commit_positions(&Positions::new(self.group.clone(), Vec::new())).await?;
                    }
                    // From here on there is nothing to wait for: an event is told, or the future was dropped before.
                    if self.coordinator.told(self, &event, version) {
                        return Ok(event);
                    }
                }
                None => {
                    let closed = || Error::new(ErrorKind::Closed, "the log was closed");
                    self.coordinator.changed.after(seen).await.ok_or_else(closed)?;
                }
            }
        }
    }

    async fn release(&self, partitions: &[TopicPartition]) -> Result<()> {
        let freed = {
            let mut state = self.coordinator.lock();
            state.groups.get_mut(&self.group).is_some_and(|group| group.release(self.id, partitions))
        };
        if freed {
            self.coordinator.wake();
        }
        Ok(())
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<()> {
        {
            let state = &mut *self.coordinator.lock();
            let group = state.groups.get_mut(&self.group).ok_or_else(|| state::fenced(self.id))?;
            group.subscribe(self.id, subscription, &state.topics)?;
        }
        self.coordinator.wake();
        Ok(())
    }

    fn leave(&self) {
        {
            let state = &mut *self.coordinator.lock();
            let Some(group) = state.groups.get_mut(&self.group) else { return };
            if !group.leave(self.id, &state.topics) {
                return;
            }
            if group.is_empty() {
                state.groups.remove(&self.group);
            }
        }
        self.coordinator.wake();
    }
}

impl Drop for LocalMember {
    fn drop(&mut self) {
        self.leave();
    }
}
