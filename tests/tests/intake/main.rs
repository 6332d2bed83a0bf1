//! Intake of pushes, sweeps and signals on a ledger in ministack's DynamoDB, with a table for every test.

mod fixture;
mod pushes;
mod signals;
mod sweeps;
mod tags;
