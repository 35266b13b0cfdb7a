//! The management functions: what a channel is called, whose it is, where its blocks lie, and what may happen to it next.

#![forbid(unsafe_code)]

pub mod admission;
pub mod audit;
pub mod balance;
pub mod calibration;
pub mod config;
pub mod control;
pub mod event;
pub mod explain;
pub mod extent;
pub mod journal;
pub mod label;
pub mod lifecycle;
pub mod monitor;
pub mod procedure;
pub mod recovery;
mod seeded;
pub mod signature;
