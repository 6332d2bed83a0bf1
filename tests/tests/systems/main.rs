//! The reference systems under `tests/systems/`, whole: their Terraform is evaluated without Terraform, compared with
//! their policies, with what `switchback doctor` prints and with their owners' documents, and releases are deployed to
//! a simulated world that is built from it.
//!
//! | module | what it is |
//! |---|---|
//! | `terraform` | evaluates a folder of `.tf` files |
//! | `system` | the systems: their configurations and policies |
//! | `names` | what the policies name is what Terraform creates |
//! | `sides` | both sides of a pair are alike, and fit the policy and ECS |
//! | `security` | security groups and roles |
//! | `network` | zones, subnets, routes, gateways, endpoints |
//! | `scene` | the simulated world, built from a configuration |
//! | `play` | a system in simulated time |
//! | `doctor` | the doctor's findings, and what Terraform has to ignore |
//! | `two_tier` | stories of the two-tier service |
//! | `skillancer` | stories of Skillancer in dev and staging |
//! | `production` | stories of Skillancer in prod |
//! | `readme` | the tables of the READMEs |

mod doctor;
mod names;
mod network;
mod play;
mod production;
mod readme;
mod scene;
mod security;
mod sides;
mod skillancer;
mod system;
mod terraform;
mod two_tier;
