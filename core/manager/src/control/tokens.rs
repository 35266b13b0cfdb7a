//! Which channel a readiness event is about.

use std::collections::HashMap;

use mio::Token;

/// Tokens of endpoints and sessions. None is used twice, so a late event never reaches another channel.
#[derive(Debug)]
pub(crate) struct Tokens {
    next: usize,
    owners: HashMap<Token, String>,
}

impl Tokens {
    pub(crate) fn new(first: usize) -> Self {
        Self { next: first, owners: HashMap::new() }
    }

    pub(crate) fn give(&mut self, channel: &str) -> Token {
        let token = Token(self.next);
        self.next += 1;
        self.owners.insert(token, channel.to_owned());
        token
    }

    pub(crate) fn take_back(&mut self, token: Token) {
        self.owners.remove(&token);
    }

    pub(crate) fn owner(&self, token: Token) -> Option<String> {
        self.owners.get(&token).cloned()
    }
}
