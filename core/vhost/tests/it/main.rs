//! Sessions, by their messages and over sockets: one program, so that all of its tests share a front-end made of bytes.

mod frontend;
mod handshakes;
mod messages;
mod properties;
mod sockets;
mod wire;
