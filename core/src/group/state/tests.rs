//! One group, without and with chance.

use proptest::prelude::*;

use super::*;
use crate::{
    Partition,
    group::{Topics, assign::Assignor},
};

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn sizes(topics: &[(&str, u32)]) -> TopicSizes {
    topics.iter().map(|(name, count)| (topic(name), *count)).collect()
}

fn p(name: &str, number: u32) -> TopicPartition {
    TopicPartition::new(topic(name), Partition(number))
}

fn reads(names: &[&str]) -> Subscription {
    let names = names.iter().map(|name| topic(name)).collect();
    Subscription { topics: Topics::Named(names), assignor: Assignor::Sticky }
}

const A: MemberId = MemberId(1);
const B: MemberId = MemberId(2);

/// Tells a member what there is to tell, and returns it.
fn tell(group: &mut Group, member: MemberId) -> Option<GroupEvent> {
    let event = group.event(member)?;
    group.told(member, &event);
    Some(event)
}

fn membership(group: &Group, member: MemberId) -> Membership {
    Membership { member, generation: group.generation_of(member) }
}

#[test]
fn a_partition_is_given_only_when_its_owner_has_released_it() {
    let topics = sizes(&[("t", 2)]);
    let mut group = Group::default();
    group.join(A, &reads(&["t"]), &topics).unwrap();
    assert_eq!(tell(&mut group, A), Some(GroupEvent::Assigned(vec![p("t", 0), p("t", 1)])));
    assert_eq!(tell(&mut group, A), None);
    group.join(B, &reads(&["t"]), &topics).unwrap();
    assert_eq!(tell(&mut group, B), None);
    let revoked = GroupEvent::Revoked(vec![p("t", 1)]);
    assert_eq!((tell(&mut group, A), tell(&mut group, A)), (Some(revoked.clone()), Some(revoked)));
    // What is being given up can still be committed, and only by its owner.
    group.check(membership(&group, A), [&p("t", 0), &p("t", 1)]).unwrap();
    assert_eq!(group.check(membership(&group, B), [&p("t", 1)]).unwrap_err().kind(), ErrorKind::Fenced);
    assert!(group.release(A, &[p("t", 1)]));
    assert_eq!(tell(&mut group, A), None);
    assert_eq!(tell(&mut group, B), Some(GroupEvent::Assigned(vec![p("t", 1)])));
    assert_eq!(group.check(membership(&group, A), [&p("t", 1)]).unwrap_err().kind(), ErrorKind::Fenced);
    group.check(membership(&group, B), [&p("t", 1)]).unwrap();
}

#[test]
fn whoever_left_is_fenced_and_what_it_had_is_free_at_once() {
    let topics = sizes(&[("t", 2)]);
    let mut group = Group::default();
    group.join(A, &reads(&["t"]), &topics).unwrap();
    group.join(B, &reads(&["t"]), &topics).unwrap();
    assert!(matches!(tell(&mut group, A), Some(GroupEvent::Assigned(own)) if own.len() == 1));
    let zombie = membership(&group, A);
    assert!(group.leave(A, &topics));
    assert!(!group.leave(A, &topics));
    assert_eq!(tell(&mut group, A), Some(GroupEvent::Evicted));
    assert_eq!(group.check(zombie, [&p("t", 0)]).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(group.check(zombie, []).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(tell(&mut group, B), Some(GroupEvent::Assigned(vec![p("t", 0), p("t", 1)])));
}

#[test]
fn a_commit_of_an_earlier_ownership_is_fenced_when_the_partition_has_come_back() {
    let topics = sizes(&[("t", 1)]);
    let mut group = Group::default();
    group.join(A, &reads(&["t"]), &topics).unwrap();
    tell(&mut group, A).unwrap();
    let early = membership(&group, A);
    group.check(early, [&p("t", 0)]).unwrap();
    group.subscribe(A, &reads(&[]), &topics).unwrap();
    tell(&mut group, A).unwrap();
    group.release(A, &[p("t", 0)]);
    group.subscribe(A, &reads(&["t"]), &topics).unwrap();
    assert_eq!(tell(&mut group, A), Some(GroupEvent::Assigned(vec![p("t", 0)])));
    assert_eq!(group.check(early, [&p("t", 0)]).unwrap_err().kind(), ErrorKind::Fenced);
    group.check(membership(&group, A), [&p("t", 0)]).unwrap();
}

#[test]
fn topics_that_grow_come_or_go_are_noticed() {
    let (none, two, three) = (sizes(&[]), sizes(&[("t", 2)]), sizes(&[("t", 3), ("other", 9)]));
    let mut group = Group::default();
    group.join(A, &reads(&["t"]), &none).unwrap();
    assert_eq!(tell(&mut group, A), None);
    group.topics_changed(&none, &two);
    assert_eq!(tell(&mut group, A), Some(GroupEvent::Assigned(vec![p("t", 0), p("t", 1)])));
    group.topics_changed(&two, &three);
    assert_eq!(tell(&mut group, A), Some(GroupEvent::Assigned(vec![p("t", 2)])));
    let before = group.generation;
    group.topics_changed(&three, &sizes(&[("t", 3)]));
    assert_eq!(group.generation, before, "nobody reads the other one");
    group.topics_changed(&three, &none);
    let all = vec![p("t", 0), p("t", 1), p("t", 2)];
    assert_eq!(tell(&mut group, A), Some(GroupEvent::Lost(all)));
    assert_eq!(tell(&mut group, A), None);
}

#[test]
fn a_partition_that_goes_while_it_is_given_up_is_lost() {
    let (none, one) = (sizes(&[]), sizes(&[("t", 1)]));
    let mut group = Group::default();
    group.join(A, &reads(&["t"]), &one).unwrap();
    tell(&mut group, A).unwrap();
    group.subscribe(A, &reads(&[]), &one).unwrap();
    assert_eq!(tell(&mut group, A), Some(GroupEvent::Revoked(vec![p("t", 0)])));
    // Nobody reads the topic now, but somebody still has it.
    group.topics_changed(&one, &none);
    assert_eq!(tell(&mut group, A), Some(GroupEvent::Lost(vec![p("t", 0)])));
    assert_eq!(tell(&mut group, A), None);
}

#[test]
fn members_agree_on_how_partitions_are_shared_out() {
    let topics = sizes(&[("t", 1)]);
    let mut group = Group::default();
    group.join(A, &reads(&["t"]), &topics).unwrap();
    let range = Subscription { assignor: Assignor::Range, ..reads(&["t"]) };
    assert_eq!(group.join(B, &range, &topics).unwrap_err().kind(), ErrorKind::Invalid);
    // Alone it may change its mind.
    group.subscribe(A, &range, &topics).unwrap();
    group.join(B, &range, &topics).unwrap();
}

#[derive(Debug, Clone)]
enum Op {
    Join(u64, BTreeSet<u32>),
    Leave(u64),
    Subscribe(u64, BTreeSet<u32>),
    Topics(Vec<u32>),
    /// Tells a member one thing, and has it release what was revoked.
    Turn(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let names = || prop::collection::btree_set(0..3u32, 0..3);
    prop_oneof![
        2 => (0..5u64, names()).prop_map(|(member, names)| Op::Join(member, names)),
        1 => (0..5u64).prop_map(Op::Leave),
        1 => (0..5u64, names()).prop_map(|(member, names)| Op::Subscribe(member, names)),
        1 => prop::collection::vec(0..5u32, 3).prop_map(Op::Topics),
        8 => (0..5u64).prop_map(Op::Turn),
    ]
}

/// What each member believes to have.
type Beliefs = BTreeMap<MemberId, BTreeSet<TopicPartition>>;

/// What is gone is nobody's, whoever believes what: a new topic of the name may be somebody else's by now.
fn forget_gone(beliefs: &mut Beliefs, topics: &TopicSizes) {
    for own in beliefs.values_mut() {
        own.retain(|p| topics.get(&p.topic).is_some_and(|count| p.partition.0 < *count));
    }
}

fn turn(group: &mut Group, member: MemberId, beliefs: &mut Beliefs) -> Result<bool, TestCaseError> {
    let Some(event) = tell(group, member) else { return Ok(false) };
    match event {
        GroupEvent::Assigned(partitions) => {
            for other in beliefs.values() {
                prop_assert!(partitions.iter().all(|partition| !other.contains(partition)), "two owners");
            }
            beliefs.entry(member).or_default().extend(partitions);
        }
        GroupEvent::Revoked(partitions) => {
            let own = beliefs.get_mut(&member).unwrap();
            prop_assert!(partitions.iter().all(|partition| own.remove(partition)));
            group.check(membership(group, member), &partitions).unwrap();
            group.release(member, &partitions);
        }
        GroupEvent::Lost(partitions) => {
            prop_assert!(partitions.iter().all(|partition| !beliefs[&member].contains(partition)));
        }
        GroupEvent::Evicted => {
            beliefs.remove(&member);
        }
    }
    Ok(true)
}

proptest! {
    #[test]
    fn no_partition_has_two_owners_and_all_have_one_in_the_end(ops in prop::collection::vec(op(), 1..60)) {
        let name = |number: u32| topic(&format!("t{number}"));
        let wants = |names: &BTreeSet<u32>| Subscription {
            topics: Topics::Named(names.iter().map(|number| name(*number)).collect()),
            assignor: Assignor::Sticky,
        };
        let mut topics = sizes(&[]);
        let (mut group, mut beliefs) = (Group::default(), Beliefs::new());
        for op in ops {
            match op {
                Op::Join(member, names) if !group.members.contains_key(&MemberId(member)) => {
                    beliefs.insert(MemberId(member), BTreeSet::new());
                    group.join(MemberId(member), &wants(&names), &topics).unwrap();
                }
                Op::Leave(member) => {
                    beliefs.remove(&MemberId(member));
                    group.leave(MemberId(member), &topics);
                }
                Op::Subscribe(member, names) => {
                    let _ = group.subscribe(MemberId(member), &wants(&names), &topics);
                }
                Op::Topics(counts) => {
                    let now = (0..).zip(&counts).filter(|(_, count)| **count > 0).map(|(n, count)| (name(n), *count)).collect();
                    group.topics_changed(&topics, &now);
                    topics = now;
                    forget_gone(&mut beliefs, &topics);
                }
                Op::Turn(member) => {
                    turn(&mut group, MemberId(member), &mut beliefs)?;
                }
                Op::Join(..) => {}
            }
        }
        let members: Vec<_> = group.members.keys().copied().collect();
        for round in 0.. {
            prop_assert!(round < 10, "never settles");
            let mut busy = false;
            for member in &members {
                busy |= turn(&mut group, *member, &mut beliefs)?;
            }
            if !busy {
                break;
            }
        }
        for (name, count) in &topics {
            let read = group.members.values().any(|state| state.subscription.topics.contains(name));
            for number in 0..*count {
                let partition = TopicPartition::new(name.clone(), Partition(number));
                let owners = beliefs.values().filter(|own| own.contains(&partition)).count();
                prop_assert_eq!(owners, usize::from(read), "{}", partition);
            }
        }
        prop_assert!(beliefs.values().flatten().all(|partition| topics.contains_key(&partition.topic)));
    }
}
