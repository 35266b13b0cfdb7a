//! vhost-user sessions: a sans-IO state machine, and the socket under it
