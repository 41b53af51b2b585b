//! The command line: one file for each verb.

pub mod hash_password;
pub mod token;
pub mod user;

use std::process::ExitCode;

/// Runs the program.
pub fn main() -> ExitCode {
    let path = std::env::args().nth(3).unwrap_or_default();
    let config = match crate::config::load(std::path::Path::new(&path), &crate::config::Environment::of_process()) {
        Ok(config) => config,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(1);
        }
    };
    match crate::app::Gateway::start(config, crate::base::clock::Clock::System, std::io::stdout()) {
        Ok(_gateway) => loop {
            std::thread::park();
        },
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}
