//! The command line as it is written: verbs, arguments and their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Environment;

/// The configuration file when neither `--config` nor `TOLLGATE_CONFIG` names one.
const DEFAULT_CONFIG: &str = "gateway.toml";

/// Issues tokens, checks them on every request and tells the API behind who is calling.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// The configuration.
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        help = "The configuration [default: $TOLLGATE_CONFIG, or gateway.toml]"
    )]
    pub config: Option<PathBuf>,
    /// What to do; nothing is the same as "run".
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start the gateway; this is what happens without a verb
    Run,
    /// Try it out: a gateway, a sample API and a user, on free ports
    Demo {
        /// Print one line {"url","username","password"} instead of the commands to try
        #[arg(long)]
        json: bool,
    },
    /// Write a commented configuration to start from
    Init {
        /// The API to protect.
        #[arg(long, value_name = "URL", help = "The API to protect, such as http://127.0.0.1:9000")]
        upstream: String,
    },
    /// Check the configuration and show who may use which route
    #[command(visible_alias = "validate")]
    Check,
    /// Add, list and change users, also while the gateway runs
    #[command(subcommand)]
    User(UserVerb),
    /// Look into tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Print the hash of a password, which is read from a prompt or standard input
    HashPassword,
    /// Ask a running gateway whether it is ready; exit code 0 says that it is
    Health {
        /// The admin address [default: server.admin of the configuration]
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What to do with users.
#[derive(Debug, Subcommand)]
pub enum UserVerb {
    /// Add a user; the password is read from a prompt or standard input
    Add(NewUser),
    /// List all users
    List,
    /// Change a password, which is read from a prompt or standard input
    Passwd(UserName),
    /// Switch a user off: no login, and tokens are refused at once
    Disable(UserName),
    /// Switch a user on again
    Enable(UserName),
    /// Delete a user for ever
    Delete(UserName),
    /// Take over users with their password hashes from a file or the database of a Django application
    Import(ImportFrom),
}

/// Whom to import.
#[derive(Args, Debug)]
pub struct ImportFrom {
    /// A file, or a URL that begins with sqlite://, postgres:// or mysql://
    #[arg(long, value_name = "FILE|URL")]
    pub from: String,
    /// What it is [default: django for a URL, csv for a file that ends so, otherwise htpasswd]
    #[arg(long)]
    pub format: Option<ImportFormat>,
    /// The table of users in a Django database
    #[arg(long, value_name = "TABLE", default_value = "auth_user")]
    pub table: String,
    /// Import everybody else when some are refused
    #[arg(long)]
    pub skip_refused: bool,
    /// Change nothing, only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// What users are imported from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ImportFormat {
    /// name:hash lines
    Htpasswd,
    /// A table with the header name,email,groups,password, the last one being the hash; groups are separated by ";"
    Csv,
    /// The table `auth_user` of a Django application
    Django,
}

/// A user to be made.
#[derive(Args, Debug)]
pub struct NewUser {
    /// The name to log in with
    pub name: String,
    /// The e-mail address
    #[arg(long, value_name = "E")]
    pub email: Option<String>,
    /// A group; may be given several times
    #[arg(long = "group", value_name = "G")]
    pub groups: Vec<String>,
}

/// Which user.
#[derive(Args, Debug)]
pub struct UserName {
    /// The user's name
    pub name: String,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Show what a token says and whether it would pass; exit code 0 says that it would
    Inspect {
        /// The token; read from standard input when it is left out or "-"
        token: Option<String>,
    },
}

/// Where the configuration is, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigPath {
    /// Named by `--config` or `TOLLGATE_CONFIG`.
    Named(PathBuf),
    /// Nobody named one.
    Default(PathBuf),
}

impl ConfigPath {
    /// The argument counts first, then the variable when it is not empty, then the default.
    pub fn of(argument: Option<PathBuf>, environment: &Environment) -> Self {
        let variable = environment.variable("TOLLGATE_CONFIG").filter(|path| !path.is_empty());
        match argument.or_else(|| variable.map(PathBuf::from)) {
            Some(path) => Self::Named(path),
            None => Self::Default(PathBuf::from(DEFAULT_CONFIG)),
        }
    }

    /// The file.
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Named(path) | Self::Default(path) => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parsed(line: &str) -> Result<Arguments, ErrorKind> {
        Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_verb_is_run_and_the_configuration_stands_before_or_after_the_verb() {
        let bare = parsed("tollgate").unwrap();
        assert!(bare.verb.is_none() && bare.config.is_none());
        assert!(matches!(parsed("tollgate run").unwrap().verb, Some(Verb::Run)));
        for line in ["tollgate --config a.toml check", "tollgate validate --config a.toml"] {
            let arguments = parsed(line).unwrap();
            assert!(matches!(arguments.verb, Some(Verb::Check)));
            assert_eq!(arguments.config, Some(PathBuf::from("a.toml")));
        }
        assert!(parsed("tollgate --config a.toml").unwrap().verb.is_none());
    }

    #[test]
    fn users_have_groups_and_never_a_password_argument() {
        let Some(Verb::User(UserVerb::Add(user))) =
            parsed("tollgate user add zoe --group a --group b --email z@example.com").unwrap().verb
        else {
            panic!("another verb");
        };
        assert_eq!((user.name.as_str(), user.email.as_deref()), ("zoe", Some("z@example.com")));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(parsed("tollgate user add zoe --password x").unwrap_err(), ErrorKind::UnknownArgument);
        assert_eq!(parsed("tollgate user passwd zoe secret").unwrap_err(), ErrorKind::UnknownArgument);
        assert_eq!(parsed("tollgate hash-password secret").unwrap_err(), ErrorKind::UnknownArgument);
    }

    #[test]
    fn what_is_not_built_is_no_verb() {
        for verb in ["explain", "session", "key", "reload", "bench", "token mint"] {
            let error = parsed(&format!("tollgate {verb}")).unwrap_err();
            assert_eq!(error, ErrorKind::InvalidSubcommand, "{verb}");
        }
        assert_eq!(parsed("tollgate init").unwrap_err(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn the_argument_counts_before_the_variable() {
        let with = Environment::from_pairs([("TOLLGATE_CONFIG", "env.toml")]);
        let empty = Environment::from_pairs([("TOLLGATE_CONFIG", "")]);
        let named = |path: &str| ConfigPath::Named(PathBuf::from(path));
        assert_eq!(ConfigPath::of(Some("arg.toml".into()), &with), named("arg.toml"));
        assert_eq!(ConfigPath::of(None, &with), named("env.toml"));
        assert_eq!(ConfigPath::of(None, &empty), ConfigPath::Default("gateway.toml".into()));
    }

    #[test]
    fn help() {
        let help = Arguments::command().render_help().to_string();
        insta::assert_snapshot!(help, @r#"
        Issues tokens, checks them on every request and tells the API behind who is calling

        Usage: tollgate [OPTIONS] [COMMAND]

        Commands:
          run            Start the gateway; this is what happens without a verb
          demo           Try it out: a gateway, a sample API and a user, on free ports
          init           Write a commented configuration to start from
          check          Check the configuration and show who may use which route [alias: validate]
          user           Add, list and change users, also while the gateway runs
          token          Look into tokens
          hash-password  Print the hash of a password, which is read from a prompt or standard input
          health         Ask a running gateway whether it is ready; exit code 0 says that it is
          completions    Print a completion script for a shell

        Options:
              --config <FILE>  The configuration [default: $TOLLGATE_CONFIG, or gateway.toml]
          -h, --help           Print help
          -V, --version        Print version
        "#);
    }
}
