use vfiomux_frontend::{FrontendError, Loopback, NullRing, Queue, Session, Waiter};

/// What a guest's queues lead to.
#[derive(Debug)]
pub(crate) enum Link {
    /// A back-end at a socket.
    Session {
        /// The socket.
        socket: String,
        session: Box<Session>,
    },
    /// A null ring for each queue, in this process.
    Null { loopback: Loopback, rings: Vec<NullRing> },
    /// Whatever a test puts there.
    #[cfg(test)]
    Test(Loopback),
}

impl Link {
    /// Null rings at the other end.
    pub(crate) fn null(loopback: Loopback) -> Result<Self, FrontendError> {
        Ok(Self::Null { rings: loopback.null_rings()?, loopback })
    }

    /// How it is called in messages and reports.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Session { socket, .. } => socket,
            Self::Null { .. } => "null ring",
            #[cfg(test)]
            Self::Test(_) => "test",
        }
    }

    /// All queues.
    #[inline]
    pub(crate) fn queues(&mut self) -> &mut [Queue] {
        match self {
            Self::Session { session, .. } => session.queues(),
            Self::Null { loopback, .. } => loopback.queues(),
            #[cfg(test)]
            Self::Test(loopback) => loopback.queues(),
        }
    }

    /// One of them.
    #[inline]
    pub(crate) fn queue(&mut self, index: usize) -> Option<&mut Queue> {
        self.queues().get_mut(index)
    }

    /// Asks to be called at the next completion; true when there is one already.
    pub(crate) fn arm(&mut self) -> bool {
        self.queues().iter_mut().any(Queue::arm)
    }

    /// Asks not to be called.
    pub(crate) fn disarm(&mut self) {
        self.queues().iter_mut().for_each(Queue::disarm);
    }

    /// Lets null rings answer. Returns whether there was anything to answer.
    #[inline]
    pub(crate) fn answer(&mut self) -> bool {
        match self {
            // Each of them, whatever the ones before it had.
            Self::Null { rings, .. } => rings.iter_mut().map(NullRing::answer).sum::<u32>() != 0,
            _ => false,
        }
    }

    /// Has a waiter hear of this one, under this key.
    pub(crate) fn watch(&self, waiter: &Waiter, key: u32) -> Result<(), FrontendError> {
        match self {
            Self::Session { session, .. } => waiter.watch(session, key),
            _ => Ok(()),
        }
    }

    /// Ends it in order.
    pub(crate) fn stop(self) -> Result<(), FrontendError> {
        match self {
            Self::Session { session, .. } => session.stop(),
            _ => Ok(()),
        }
    }
}
