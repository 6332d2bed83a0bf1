//! The journal delivered: to a bus, to topics, to people by link and in a chat, by channels that fail, refuse and die
//! at every call, over journals that the real decision and drive loop have written.

mod chats;
mod deliveries;
#[path = "../promotion/pipeline.rs"]
#[expect(dead_code, reason = "its own tests use more of it than the tests here")]
mod pipeline;
mod ports;
