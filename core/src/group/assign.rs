//! Who gets which partitions. Pure: the same question has the same answer.

use std::collections::{BTreeMap, BTreeSet};

use super::{MemberId, Topics};
use crate::{Partition, TopicName, TopicPartition};

/// How partitions are shared out (Kafka: `partition.assignment.strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Assignor {
    /// As evenly as can be, and what somebody has already stays there if it may (Kafka: `CooperativeStickyAssignor`).
    #[default]
    Sticky,
    /// Topic by topic, in the order of members and partitions: topics with equally many partitions are shared out alike, so
    /// that one member has partition `n` of all of them (Kafka: `RangeAssignor`).
    Range,
}

/// What is to be shared out, among whom.
pub(super) struct Question<'a> {
    pub(super) members: &'a BTreeMap<MemberId, &'a Topics>,
    /// How many partitions each topic has.
    pub(super) topics: &'a BTreeMap<TopicName, u32>,
    /// Who has what until now. Some of it may not exist any more.
    pub(super) current: &'a BTreeMap<TopicPartition, MemberId>,
}

/// The partitions of each member; every partition of a topic that somebody reads is there exactly once.
pub(super) type Answer = BTreeMap<MemberId, BTreeSet<TopicPartition>>;

impl Assignor {
    pub(super) fn assign(self, question: &Question<'_>) -> Answer {
        match self {
            Assignor::Sticky => sticky(question),
            Assignor::Range => range(question),
        }
    }
}

impl Question<'_> {
    fn readers<'a>(&'a self, topic: &'a TopicName) -> impl Iterator<Item = MemberId> + 'a {
        self.members.iter().filter(|(_, topics)| topics.contains(topic)).map(|(member, _)| *member)
    }

    fn nothing(&self) -> Answer {
        self.members.keys().map(|member| (*member, BTreeSet::new())).collect()
    }
}

fn range(question: &Question<'_>) -> Answer {
    let mut answer = question.nothing();
    for (topic, count) in question.topics {
        let readers: Vec<_> = question.readers(topic).collect();
        let Ok(among) = u32::try_from(readers.len()) else { continue };
        if among == 0 {
            continue;
        }
        let (each, extra) = (count / among, count % among);
        let mut next = 0;
        for (place, reader) in (0..).zip(readers) {
            let end = next + each + u32::from(place < extra);
            let own = answer.entry(reader).or_default();
            own.extend((next..end).map(|number| TopicPartition::new(topic.clone(), Partition(number))));
            next = end;
        }
    }
    answer
}

/// First everybody keeps what he has, then what is free goes to whoever has least, then who has most gives to who has
/// least until nothing can be evened out.
fn sticky(question: &Question<'_>) -> Answer {
    let mut answer = question.nothing();
    let mut free = Vec::new();
    for (topic, count) in question.topics {
        let readers: BTreeSet<_> = question.readers(topic).collect();
        if readers.is_empty() {
            continue;
        }
        for number in 0..*count {
            let partition = TopicPartition::new(topic.clone(), Partition(number));
            match question.current.get(&partition).filter(|owner| readers.contains(owner)) {
                Some(owner) => {
                    answer.entry(*owner).or_default().insert(partition);
                }
                None => free.push((readers.len(), partition)),
            }
        }
    }
    // Those that few can have come first, while those few have room.
    free.sort();
    for (_, partition) in free {
        let reader = question.readers(&partition.topic).min_by_key(|reader| (answer[reader].len(), *reader));
        if let Some(reader) = reader {
            answer.entry(reader).or_default().insert(partition);
        }
    }
    // Every move brings two counts closer, so this ends.
    while let Some((from, to, partition)) = next_move(question, &answer) {
        answer.entry(from).or_default().remove(&partition);
        answer.entry(to).or_default().insert(partition);
    }
    answer
}

/// A partition of whoever has most that can go to somebody who has at least two fewer.
fn next_move(question: &Question<'_>, answer: &Answer) -> Option<(MemberId, MemberId, TopicPartition)> {
    let mut members: Vec<_> = answer.iter().map(|(member, own)| (own.len(), *member)).collect();
    members.sort_unstable();
    members.iter().rev().find_map(|(most, from)| {
        let takers = members.iter().take_while(|(least, _)| least + 1 < *most);
        takers.into_iter().find_map(|(_, to)| {
            let topics = question.members.get(to)?;
            let partition = answer[from].iter().rev().find(|partition| topics.contains(&partition.topic))?;
            Some((*from, *to, partition.clone()))
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn ask(
        assignor: Assignor,
        members: &BTreeMap<MemberId, Topics>,
        topics: &BTreeMap<TopicName, u32>,
        current: &Answer,
    ) -> Answer {
        let current =
            current.iter().flat_map(|(member, own)| own.iter().map(|p| (p.clone(), *member))).collect();
        let members = members.iter().map(|(member, topics)| (*member, topics)).collect();
        assignor.assign(&Question { members: &members, topics, current: &current })
    }

    fn shown(answer: &Answer) -> Vec<(u64, Vec<String>)> {
        answer.iter().map(|(member, own)| (member.0, own.iter().map(ToString::to_string).collect())).collect()
    }

    fn all() -> Topics {
        Topics::Prefix(String::new())
    }

    /// The example in the documentation of Kafka's `RangeAssignor`.
    #[test]
    fn range_is_kafkas() {
        let members = BTreeMap::from([(MemberId(0), all()), (MemberId(1), all())]);
        let topics = BTreeMap::from([(topic("t0"), 3), (topic("t1"), 3)]);
        let answer = ask(Assignor::Range, &members, &topics, &Answer::new());
        let expected = [(0, vec!["t0-0", "t0-1", "t1-0", "t1-1"]), (1, vec!["t0-2", "t1-2"])];
        assert_eq!(shown(&answer), expected.map(|(m, own)| (m, own.into_iter().map(String::from).collect())));
    }

    #[test]
    fn a_member_that_reads_nothing_gets_nothing_and_what_nobody_reads_goes_nowhere() {
        let of = |name: &str| Topics::Named(BTreeSet::from([topic(name)]));
        let members = BTreeMap::from([(MemberId(0), of("a")), (MemberId(1), of("nowhere"))]);
        let topics = BTreeMap::from([(topic("a"), 2), (topic("b"), 2)]);
        for assignor in [Assignor::Range, Assignor::Sticky] {
            let answer = ask(assignor, &members, &topics, &Answer::new());
            let expected = [(0, vec!["a-0".to_owned(), "a-1".to_owned()]), (1, vec![])];
            assert_eq!(shown(&answer), expected);
        }
    }

    fn some_topics() -> impl Strategy<Value = BTreeMap<TopicName, u32>> {
        prop::collection::btree_map("[a-d]".prop_map(|name| topic(&name)), 0..12u32, 0..4)
    }

    fn some_members(equal: bool) -> impl Strategy<Value = BTreeMap<MemberId, Topics>> {
        let names = prop::collection::btree_set("[a-d]".prop_map(|name| topic(&name)), 0..4);
        let topics = if equal { Just(all()).boxed() } else { names.prop_map(Topics::Named).boxed() };
        prop::collection::btree_map((0..9u64).prop_map(MemberId), topics, 0..6)
    }

    /// Every partition that somebody reads has exactly one owner, who reads it.
    fn check_owners(
        members: &BTreeMap<MemberId, Topics>,
        topics: &BTreeMap<TopicName, u32>,
        answer: &Answer,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(answer.keys().collect::<Vec<_>>(), members.keys().collect::<Vec<_>>());
        for (name, count) in topics {
            let readers = members.values().filter(|topics| topics.contains(name)).count();
            for number in 0..*count {
                let partition = TopicPartition::new(name.clone(), Partition(number));
                let owners: Vec<_> = answer.iter().filter(|(_, own)| own.contains(&partition)).collect();
                prop_assert_eq!(owners.len(), readers.min(1), "{}", partition);
                prop_assert!(owners.iter().all(|(owner, _)| members[owner].contains(name)));
            }
        }
        let known = |p: &TopicPartition| topics.get(&p.topic).is_some_and(|count| p.partition.0 < *count);
        prop_assert!(answer.values().flatten().all(known));
        Ok(())
    }

    /// How many partitions have another owner although the old one could have kept them.
    fn moved(before: &Answer, after: &Answer) -> usize {
        let owned = |answer: &Answer, p: &TopicPartition| {
            answer.iter().find(|(_, own)| own.contains(p)).map(|(m, _)| *m)
        };
        let all: BTreeSet<_> = before.values().flatten().collect();
        all.iter()
            .filter(|p| {
                let (was, is) = (owned(before, p), owned(after, p));
                is.is_some() && was != is && was.is_some_and(|was| after.contains_key(&was))
            })
            .count()
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner(
            members in some_members(false), topics in some_topics(),
            members2 in some_members(false), topics2 in some_topics(),
        ) {
            for assignor in [Assignor::Range, Assignor::Sticky] {
                let first = ask(assignor, &members, &topics, &Answer::new());
                check_owners(&members, &topics, &first)?;
                let second = ask(assignor, &members2, &topics2, &first);
                check_owners(&members2, &topics2, &second)?;
                prop_assert_eq!(&ask(assignor, &members2, &topics2, &second), &second, "nothing changed");
            }
        }

        #[test]
        fn sticky_is_even_and_moves_no_more_than_it_must(
            members in some_members(true), topics in some_topics(), members2 in some_members(true),
        ) {
            let first = ask(Assignor::Sticky, &members, &topics, &Answer::new());
            let second = ask(Assignor::Sticky, &members2, &topics, &first);
            for answer in [&first, &second] {
                let counts = || answer.values().map(BTreeSet::len);
                prop_assert!(counts().max().unwrap_or(0) - counts().min().unwrap_or(0) <= 1, "{:?}", shown(answer));
            }
            // Who stays gives only what is above his share.
            let total: usize = topics.values().map(|count| *count as usize).sum();
            let share = total.checked_div(members2.len()).unwrap_or(0);
            let stay = || first.iter().filter(|(member, _)| members2.contains_key(member));
            let must: usize = stay().map(|(_, own)| own.len().saturating_sub(share)).sum();
            prop_assert!(moved(&first, &second) <= must, "{:?} -> {:?}", shown(&first), shown(&second));
        }

        #[test]
        fn range_shares_topics_of_equal_size_alike(members in some_members(true), count in 0..20u32) {
            let topics = BTreeMap::from([(topic("a"), count), (topic("b"), count)]);
            let answer = ask(Assignor::Range, &members, &topics, &Answer::new());
            for own in answer.values() {
                let of = |name: &str| own.iter().filter(|p| p.topic.as_str() == name).map(|p| p.partition).collect::<Vec<_>>();
                prop_assert_eq!(of("a"), of("b"));
            }
        }
    }
}
