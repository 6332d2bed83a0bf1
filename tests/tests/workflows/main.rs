//! Requests of GitHub Actions workflows over the whole loop in virtual time: as the HTTP API passes them on after its JWT
//! authorizer, against the grants of a policy file, with their outcome in ledger and journal.

mod bench;
mod promotions;
mod refusals;
mod requests;
