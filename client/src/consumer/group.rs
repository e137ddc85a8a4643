//! A consumer's part in its group: what comes from there, in which order it is dealt with, and what the listener is told.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use headwater_core::{Error, ErrorKind, GroupEvent, Member, Result, Subscription, TopicPartition};
use tokio::time::sleep_until;

use super::{
    listener::{Rebalance, RebalanceListener},
    reader::Reader,
    watch::Watch,
};

/// A consumer without its types.
pub(super) struct Core {
    pub(super) reader: Reader,
    listener: Option<Box<dyn RebalanceListener>>,
    /// What it reads as a member of a group.
    pub(super) subscription: Option<Subscription>,
    seat: Option<Seat>,
    /// What is to be dealt with next.
    event: Option<GroupEvent>,
    /// What the listener is to be told.
    assigned: Vec<TopicPartition>,
    lost: Vec<TopicPartition>,
    watch: Option<Watch>,
}

/// A place in a group.
struct Seat {
    member: Arc<dyn Member>,
    /// Kept until it is ready: what it waits for would begin anew with another one.
    next: BoxFuture<'static, Result<GroupEvent>>,
}

impl Seat {
    fn new(member: Arc<dyn Member>) -> Self {
        let next = Self::next_of(&member);
        Self { member, next }
    }

    fn next_of(member: &Arc<dyn Member>) -> BoxFuture<'static, Result<GroupEvent>> {
        let member = Arc::clone(member);
        async move { member.next().await }.boxed()
    }

    /// Safe to drop half way.
    async fn next(&mut self) -> Result<GroupEvent> {
        let event = (&mut self.next).await;
        self.next = Self::next_of(&self.member);
        event
    }
}

impl Core {
    pub(super) fn new(reader: Reader, listener: Option<Box<dyn RebalanceListener>>) -> Self {
        Self {
            reader,
            listener,
            subscription: None,
            seat: None,
            event: None,
            assigned: Vec::new(),
            lost: Vec::new(),
            watch: None,
        }
    }

    pub(super) async fn subscribe(&mut self, subscription: Subscription) -> Result<()> {
        self.reader.group()?;
        if self.subscription.is_none() && self.reader.partitions.names().next().is_some() {
            return Err(Error::invalid("partitions were assigned by hand: `unsubscribe` first"));
        }
        if let Some(seat) = &self.seat {
            match seat.member.subscribe(&subscription).await {
                // It was evicted, and joins with the new subscription when it is told so.
                Err(error) if error.kind() == ErrorKind::Fenced => {}
                subscribed => subscribed?,
            }
        }
        self.subscription = Some(subscription);
        if self.seat.is_none() { self.join().await } else { Ok(()) }
    }

    /// The timer; without a group it has nothing to do.
    fn watch(&mut self) -> Option<&mut Watch> {
        self.reader.settings.group.as_ref()?;
        let silence_max = self.reader.settings.poll_interval_max;
        Some(self.watch.get_or_insert_with(|| Watch::new(silence_max)))
    }

    /// The consumer is asked for records; whether it is time to look around.
    #[inline]
    pub(super) fn polled(&mut self) -> bool {
        self.watch().is_some_and(Watch::polled)
    }

    async fn join(&mut self) -> Result<()> {
        let Some(subscription) = &self.subscription else { return Ok(()) };
        let member = self.reader.log.join(self.reader.group()?, subscription).await?;
        let member: Arc<dyn Member> = member.into();
        self.reader.member = Some(member.membership());
        if let Some(watch) = self.watch() {
            watch.guard(Some(Arc::clone(&member)));
        }
        self.seat = Some(Seat::new(member));
        Ok(())
    }

    /// Gives up everything, after the listener was told; the group shares it out among the others.
    pub(super) async fn leave(&mut self) -> Result<()> {
        let told = if self.seat.is_some() { self.tell_revoked().await } else { Ok(()) };
        self.leave_at_once();
        told
    }

    async fn tell_revoked(&mut self) -> Result<()> {
        self.announce().await?;
        self.reader.auto_commit_now().await;
        let all: Vec<_> = self.reader.partitions.names().cloned().collect();
        match &mut self.listener {
            Some(listener) if !all.is_empty() => {
                listener.on_revoked(&all, &mut Rebalance(&mut self.reader)).await
            }
            _ => Ok(()),
        }
    }

    pub(super) fn leave_at_once(&mut self) {
        if let Some(seat) = self.seat.take() {
            seat.member.leave();
        }
        if let Some(watch) = &self.watch {
            watch.guard(None);
        }
        self.subscription = None;
        self.event = None;
        self.reader.member = None;
        self.reader.partitions.clear();
        self.assigned.clear();
    }

    /// Deals with everything that waits. Safe to drop half way: it is gone on with the next time.
    pub(super) async fn turn(&mut self) -> Result<()> {
        loop {
            self.announce().await?;
            if self.seat.is_none() {
                self.join().await?;
            }
            let event = match (self.event.take(), &mut self.seat) {
                (Some(event), _) => event,
                (None, None) => break,
                (None, Some(seat)) => match seat.next().now_or_never() {
                    Some(event) => event?,
                    None => break,
                },
            };
            self.handle(event).await?;
        }
        self.reader.auto_commit().await;
        Ok(())
    }

    async fn handle(&mut self, event: GroupEvent) -> Result<()> {
        match event {
            GroupEvent::Assigned(partitions) => {
                self.reader.partitions.add(&partitions);
                self.assigned.extend(partitions);
            }
            GroupEvent::Revoked(partitions) => self.give_up(&partitions).await?,
            GroupEvent::Lost(partitions) => {
                self.reader.partitions.remove(&partitions);
                self.lost.extend(partitions);
            }
            GroupEvent::Evicted => {
                self.lost.extend(self.reader.partitions.clear());
                self.seat = None;
            }
        }
        self.reader.member = self.seat.as_ref().map(|seat| seat.member.membership());
        Ok(())
    }

    /// Until it is released, the group asks for it again.
    async fn give_up(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.reader.auto_commit_now().await;
        if let Some(listener) = &mut self.listener {
            listener.on_revoked(partitions, &mut Rebalance(&mut self.reader)).await?;
        }
        if let Some(seat) = &self.seat {
            seat.member.release(partitions).await?;
        }
        self.reader.partitions.remove(partitions);
        Ok(())
    }

    /// Tells the listener what has happened, the oldest first: what was lost comes back only after it was lost.
    async fn announce(&mut self) -> Result<()> {
        let Some(listener) = &mut self.listener else {
            self.lost.clear();
            self.assigned.clear();
            return Ok(());
        };
        if !self.lost.is_empty() {
            listener.on_lost(&self.lost).await?;
            self.lost.clear();
        }
        if !self.assigned.is_empty() {
            listener.on_assigned(&self.assigned, &mut Rebalance(&mut self.reader)).await?;
            self.assigned.clear();
        }
        Ok(())
    }

    /// Fetches records, and waits until there are some. Safe to drop half way.
    pub(super) async fn fill(&mut self) -> Result<()> {
        if self.subscription.is_none() && self.reader.partitions.names().next().is_none() {
            return Err(Error::invalid("the consumer reads nothing: `subscribe` or `assign` first"));
        }
        let _waiting = self.watch().map(|watch| watch.waiting());
        loop {
            self.turn().await?;
            self.reader.locate().await?;
            if self.reader.fetch().await? {
                if !self.reader.partitions.is_drained() {
                    return Ok(());
                }
            } else {
                self.wait().await?;
            }
        }
    }

    /// Waits until something is to be done.
    async fn wait(&mut self) -> Result<()> {
        let dirty = !self.reader.partitions.uncommitted().is_empty();
        let commit = if dirty { self.reader.commit_due() } else { None };
        let commit = async {
            match commit {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let event = async {
            match &mut self.seat {
                Some(seat) => seat.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            version = self.reader.log.appended(self.reader.version) => self.reader.version = version?,
            event = event => self.event = Some(event?),
            () = commit => {}
        }
        Ok(())
    }
}
