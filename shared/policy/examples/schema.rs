//! Writes `switchback.schema.json` beside this crate's manifest: `cargo run -p policy --example schema`.

fn main() -> std::io::Result<()> {
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/switchback.schema.json"), policy::schema())
}
