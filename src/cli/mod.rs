//! The command line: one file for each verb. What is asked for goes to standard output, errors go to standard error.

pub mod arguments;
pub mod bench;
pub mod cert;
pub mod check;
pub mod demo;
pub mod error;
pub mod explain;
pub mod hash_password;
pub mod health;
pub mod import;
pub mod init;
pub mod key;
pub mod mint;
mod people;
pub mod refused;
pub mod reload;
pub mod rotation;
pub mod run;
pub mod sample;
pub mod schema;
pub mod session;
pub mod store;
mod table;
pub mod token;
pub mod user;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::arguments::{Arguments, ConfigPath, TokenVerb, Verb};
use self::error::{CommandError, Exit};
use crate::config::{self, Config, Environment};

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and version are no errors, and go to standard output. That nobody reads them is none either.
            let _unread = told.print();
            return if told.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    let outcome = perform(arguments, &Environment::of_process());
    let exit = outcome.unwrap_or_else(|error| {
        if !error.is_closed_output() {
            let prefix = if let CommandError::Config(_) = error { "" } else { "tollgate: " };
            let _unread = writeln!(io::stderr(), "{prefix}{error}");
        }
        error.exit()
    });
    exit.into()
}

fn perform(arguments: Arguments, environment: &Environment) -> Result<Exit, CommandError> {
    let place = ConfigPath::of(arguments.config, environment);
    let config = || load(&place, environment);
    // Not locked: the log of a running gateway goes there from another thread.
    let out = &mut io::stdout();
    match arguments.verb.unwrap_or(Verb::Run { take_over: false }) {
        Verb::Run { take_over } => run::run(place.path(), environment, take_over),
        Verb::Demo { json } => demo::demo(json, out),
        Verb::Init { upstream } => init::init(place.path(), &upstream, environment, out),
        Verb::Check(how) => check::perform(&place.path().display().to_string(), config(), &how, out),
        Verb::Explain(what) => match &what.request_id {
            Some(id) => refused::perform(&config()?, id, what.address, out),
            None => explain::perform(&config()?, &what, out),
        },
        Verb::User(verb) => user::perform(&config()?, verb, out),
        Verb::Session(verb) => session::perform(&config()?, verb, out),
        Verb::Store(verb) => store::perform(&config()?, &verb, out),
        Verb::Token(TokenVerb::Inspect { token }) => token::perform(&config()?, token, out),
        Verb::Token(TokenVerb::Mint(mint)) => mint::perform(&config()?, &mint, out, &mut io::stderr()),
        Verb::Key(verb) => key::perform(config, verb, out, &mut io::stderr()),
        Verb::Cert(verb) => cert::perform(verb, out, &mut io::stderr()),
        Verb::Bench(arguments) => bench::perform(&arguments, out, &mut io::stderr()),
        Verb::HashPassword => hash_password::perform(&place, environment, out),
        Verb::Reload { dry_run, address } => reload::reload(place.path(), environment, dry_run, address, out),
        Verb::Health { address: Some(address) } => health::health(&address, out),
        Verb::Health { address: None } => health::health(&health::configured(&config()?)?, out),
        Verb::Schema => schema::print(out),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tollgate", &mut script);
            out.write_all(&script).map_err(CommandError::Output)?;
            Ok(Exit::Ok)
        }
    }
}

fn load(place: &ConfigPath, environment: &Environment) -> Result<Config, CommandError> {
    config::load(place.path(), environment).map_err(CommandError::Config)
}
