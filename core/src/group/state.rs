//! The rules of one group: who is in it, who has which partitions, who is to have them. No locks, no time.
//!
//! ```text
//!               rebalance: a target for every member
//!   free ──────────────────────────────────────────────►  Assigned to its target, once nobody has it
//!    ▲                                                              │
//!    │  release, leave, evicted, topic gone                         │ rebalance: another target
//!    └──────────────────────────────────────────────────  Revoked, and still owned until it is released
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Generation, GroupEvent, MemberId, Membership, Subscription,
    assign::{Answer, Assignor, Question},
};
use crate::{Error, ErrorKind, Result, TopicName, TopicPartition};

/// Topics and how many partitions each has.
pub(super) type TopicSizes = BTreeMap<TopicName, u32>;

#[derive(Debug, Default)]
pub(super) struct Group {
    generation: Generation,
    /// Changes with every change of anything.
    pub(super) version: u64,
    members: BTreeMap<MemberId, MemberState>,
    owners: BTreeMap<TopicPartition, Owner>,
}

#[derive(Debug)]
struct MemberState {
    subscription: Subscription,
    /// What it is to have.
    target: BTreeSet<TopicPartition>,
    /// What it had and is gone, until it was told.
    lost: Vec<TopicPartition>,
    /// The last generation that it has heard of.
    generation: Generation,
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    member: MemberId,
    /// When it got it: what it committed in an earlier ownership is not of this one.
    since: Generation,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn join(
        &mut self,
        member: MemberId,
        subscription: &Subscription,
        topics: &TopicSizes,
    ) -> Result<()> {
        self.check_assignor(member, subscription.assignor)?;
        let state = MemberState {
            subscription: subscription.clone(),
            target: BTreeSet::new(),
            lost: Vec::new(),
            generation: self.generation,
        };
        self.members.insert(member, state);
        self.rebalance(topics);
        Ok(())
    }

    pub(super) fn subscribe(
        &mut self,
        member: MemberId,
        subscription: &Subscription,
        topics: &TopicSizes,
    ) -> Result<()> {
        self.check_assignor(member, subscription.assignor)?;
        let state = self.members.get_mut(&member).ok_or_else(|| fenced(member))?;
        if state.subscription != *subscription {
            state.subscription = subscription.clone();
            self.rebalance(topics);
        }
        Ok(())
    }

    fn check_assignor(&self, member: MemberId, assignor: Assignor) -> Result<()> {
        let mut others = self.members.iter().filter(|(other, _)| **other != member);
        match others.find(|(_, state)| state.subscription.assignor != assignor) {
            Some((_, other)) => Err(Error::invalid(format!(
                "the members of a group share partitions out in one way. assignor={assignor:?}, others={:?}",
                other.subscription.assignor
            ))),
            None => Ok(()),
        }
    }

    /// Whether it was a member.
    pub(super) fn leave(&mut self, member: MemberId, topics: &TopicSizes) -> bool {
        let was = self.members.remove(&member).is_some();
        if was {
            self.owners.retain(|_, owner| owner.member != member);
            self.rebalance(topics);
        }
        was
    }

    /// Takes note of topics that came, grew or went.
    pub(super) fn topics_changed(&mut self, before: &TopicSizes, now: &TopicSizes) {
        // One that nobody reads any more may still be somebody's, who has not released it yet.
        let read = |name: &TopicName| {
            self.members.values().any(|state| state.subscription.topics.contains(name))
                || self.owners.keys().any(|partition| partition.topic == *name)
        };
        let differs = |(name, count): (&TopicName, &u32), other: &TopicSizes| {
            other.get(name) != Some(count) && read(name)
        };
        let changed =
            before.iter().any(|topic| differs(topic, now)) || now.iter().any(|topic| differs(topic, before));
        if !changed {
            return;
        }
        let gone = |partition: &TopicPartition| {
            now.get(&partition.topic).is_none_or(|count| partition.partition.0 >= *count)
        };
        let members = &mut self.members;
        self.owners.retain(|partition, owner| {
            let gone = gone(partition);
            if gone && let Some(state) = members.get_mut(&owner.member) {
                state.lost.push(partition.clone());
            }
            !gone
        });
        self.rebalance(now);
    }

    fn rebalance(&mut self, topics: &TopicSizes) {
        self.generation.0 += 1;
        self.version += 1;
        let Some(first) = self.members.values().next() else { return };
        let assignor = first.subscription.assignor;
        let mut current: BTreeMap<_, _> =
            self.owners.iter().map(|(partition, owner)| (partition.clone(), owner.member)).collect();
        for (member, state) in &self.members {
            for partition in &state.target {
                current.entry(partition.clone()).or_insert(*member);
            }
        }
        let members =
            self.members.iter().map(|(member, state)| (*member, &state.subscription.topics)).collect();
        let mut answer: Answer = assignor.assign(&Question { members: &members, topics, current: &current });
        for (member, state) in &mut self.members {
            state.target = answer.remove(member).unwrap_or_default();
        }
    }

    /// What the member is to be told next.
    pub(super) fn event(&self, member: MemberId) -> Option<GroupEvent> {
        let Some(state) = self.members.get(&member) else { return Some(GroupEvent::Evicted) };
        if !state.lost.is_empty() {
            return Some(GroupEvent::Lost(state.lost.clone()));
        }
        let owned = self.owners.iter().filter(|(_, owner)| owner.member == member);
        let revoked: Vec<_> = owned
            .filter(|(partition, _)| !state.target.contains(partition))
            .map(|(p, _)| p.clone())
            .collect();
        if !revoked.is_empty() {
            return Some(GroupEvent::Revoked(revoked));
        }
        let free = state.target.iter().filter(|partition| !self.owners.contains_key(*partition));
        let assigned: Vec<_> = free.cloned().collect();
        (!assigned.is_empty()).then_some(GroupEvent::Assigned(assigned))
    }

    /// Takes note that the member was told.
    pub(super) fn told(&mut self, member: MemberId, event: &GroupEvent) {
        let generation = self.generation;
        let Some(state) = self.members.get_mut(&member) else { return };
        state.generation = generation;
        match event {
            GroupEvent::Assigned(partitions) => {
                self.version += 1;
                let owner = Owner { member, since: generation };
                self.owners.extend(partitions.iter().map(|partition| (partition.clone(), owner)));
            }
            GroupEvent::Lost(_) => state.lost.clear(),
            GroupEvent::Revoked(_) | GroupEvent::Evicted => {}
        }
    }

    /// Whether something became free.
    pub(super) fn release(&mut self, member: MemberId, partitions: &[TopicPartition]) -> bool {
        let mut freed = false;
        for partition in partitions {
            if self.owners.get(partition).is_some_and(|owner| owner.member == member) {
                self.owners.remove(partition);
                freed = true;
            }
        }
        self.version += u64::from(freed);
        freed
    }

    pub(super) fn generation_of(&self, member: MemberId) -> Generation {
        self.members.get(&member).map_or(self.generation, |state| state.generation)
    }

    /// Whether the member may commit positions in these partitions.
    pub(super) fn check<'a>(
        &self,
        membership: Membership,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<()> {
        let Membership { member, generation } = membership;
        if !self.members.contains_key(&member) {
            return Err(fenced(member));
        }
        for partition in partitions {
            let owner = self.owners.get(partition);
            if owner.is_none_or(|owner| owner.member != member || generation < owner.since) {
                return Err(Error::new(
                    ErrorKind::Fenced,
                    format!(
                        "the partition is not this member's any more: positions in it are its new owner's to commit. partition={partition}, member={member}, generation={generation}, current={}",
                        self.generation
                    ),
                ));
            }
        }
        Ok(())
    }
}

pub(super) fn fenced(member: MemberId) -> Error {
    Error::new(ErrorKind::Fenced, format!("not a member of the group any more: join again. member={member}"))
}

#[cfg(test)]
mod tests;
