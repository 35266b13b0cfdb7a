//! When memory may be taken away from a device.
//!
//! A command at a device names memory by its address. Until the command has ended for certain, that memory must stay
//! mapped and its address must not be given to anything else. An [`Epoch`] holds what commands name, counts them, and
//! lets go of it only as a [`Quiesced`] witness; [`crate::DmaDomain::unmap`] takes nothing less. So unmapping under a
//! live command does not compile.

/// What commands in flight may name, and how many of them there are.
///
/// An epoch belongs to one thread at a time: the sidecore that submits and completes the commands.
#[derive(Debug)]
pub struct Epoch<T> {
    value: T,
    in_flight: u32,
}

impl<T> Epoch<T> {
    /// An epoch over `value`, with nothing in flight.
    pub fn open(value: T) -> Self {
        Self { value, in_flight: 0 }
    }

    /// What the commands name.
    #[inline]
    pub fn get(&self) -> &T {
        &self.value
    }

    /// A command that names the value was handed to a device.
    #[inline]
    pub fn begin(&mut self) {
        self.in_flight += 1;
    }

    /// A command ended for certain: it completed, its submission queue was deleted, or the controller was reset.
    ///
    /// # Panics
    ///
    /// When nothing is in flight: a completion was counted twice, and memory would be unmapped under a live command.
    #[inline]
    pub fn end(&mut self) {
        assert!(self.in_flight > 0, "a command ended that never began");
        self.in_flight -= 1;
    }

    /// How many commands have not ended.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Replaces the value by one that holds all that the old one holds and more, so that commands in flight stay valid.
    ///
    /// `is_superset` decides; when it says no, the new value comes back.
    pub fn widen(&mut self, wider: T, is_superset: impl FnOnce(&T, &T) -> bool) -> Result<Quiesced<T>, T> {
        if is_superset(&wider, &self.value) {
            // What the old value holds, the new one holds too: letting go of the old takes nothing from any command.
            Ok(Quiesced(std::mem::replace(&mut self.value, wider)))
        } else {
            Err(wider)
        }
    }

    /// Gives the value back as quiesced when nothing is in flight, else the epoch itself.
    pub fn close(self) -> Result<Quiesced<T>, Self> {
        if self.in_flight == 0 { Ok(Quiesced(self.value)) } else { Err(self) }
    }
}

/// A witness that no command names what is inside. Only a drained [`Epoch`] makes one.
#[derive(Debug)]
pub struct Quiesced<T>(T);

impl<T> Quiesced<T> {
    /// What the witness is about.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The same witness for a part of what it was about. A plain function, which cannot bring anything else along.
    pub fn map<U>(self, part: fn(T) -> U) -> Quiesced<U> {
        Quiesced(part(self.0))
    }

    /// The value, to be used again or dropped. The witness is gone: it must be earned anew.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// One witness an item.
    pub fn into_each<U>(self) -> impl Iterator<Item = Quiesced<U>>
    where
        T: IntoIterator<Item = U>,
    {
        self.0.into_iter().map(Quiesced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D2: the witness cannot be had while a command is in flight.
    #[test]
    fn an_epoch_closes_only_when_drained() {
        let mut epoch = Epoch::open("memory");
        epoch.begin();
        let mut epoch = epoch.close().expect_err("one command is in flight");
        epoch.end();
        assert_eq!(epoch.close().map(Quiesced::into_inner).ok(), Some("memory"));
    }

    #[test]
    fn a_wider_value_takes_over_with_commands_in_flight() {
        let mut epoch = Epoch::open(vec![1]);
        epoch.begin();
        let superset = |new: &Vec<i32>, old: &Vec<i32>| old.iter().all(|x| new.contains(x));
        assert!(epoch.widen(vec![2], superset).is_err());
        assert_eq!(epoch.widen(vec![1, 2], superset).unwrap().into_inner(), [1]);
        assert_eq!((epoch.in_flight(), epoch.get().len()), (1, 2));
    }
}
