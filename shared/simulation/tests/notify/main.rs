//! The journal told: to a bus, to topics, to people by link and in a chat, by channels that fail, refuse and die at
//! every call, over journals that the real decision and drive loop have written.

mod chats;
mod deliveries;
#[path = "../promotion/pipeline.rs"]
#[expect(dead_code, reason = "what its own tests do there is more than is told of here")]
mod pipeline;
mod ports;
