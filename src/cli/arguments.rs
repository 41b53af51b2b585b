//! The command line as it is written: verbs, arguments and their help.

mod keys;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use serde_json::Value;

pub use self::keys::{KeyRetirement, KeyRotation, KeyVerb, NewKey};
use crate::config::{self, CertificateHost, Environment};

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
    Run {
        /// Take the sockets of the gateway that runs with the same store; it finishes what is in flight and ends
        #[arg(long)]
        take_over: bool,
    },
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
    /// Check the configuration, show who may use what, run its tests
    #[command(visible_alias = "validate")]
    Check(CheckArguments),
    /// Explain what becomes of a request, or why one was refused
    Explain(super::explain::ExplainArguments),
    /// Add, list and change users, also while the gateway runs
    #[command(subcommand)]
    User(UserVerb),
    /// List and end sessions, also while the gateway runs
    #[command(subcommand)]
    Session(SessionVerb),
    /// Bring the store's schema up to date, and move a store from one database to another
    #[command(subcommand)]
    Store(StoreVerb),
    /// Look into tokens, and make some without a login
    #[command(subcommand)]
    Token(TokenVerb),
    /// Make, list and export keys
    #[command(subcommand)]
    Key(KeyVerb),
    /// Make a certificate to try TLS with
    #[command(subcommand)]
    Cert(CertVerb),
    /// Test how much a URL bears, through the gateway and past it, by users who log in
    Bench(Box<super::bench::BenchArguments>),
    /// Print the hash of a password, which is read from a prompt or standard input
    HashPassword,
    /// Have a running gateway read its configuration again, and say what changes
    Reload {
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        /// The admin address [default: server.admin of the configuration]
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
    },
    /// Ask a running gateway whether it is ready; exit code 0 says that it is
    Health {
        /// The admin address [default: server.admin of the configuration]
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How to check.
#[derive(Args, Debug, Default)]
pub struct CheckArguments {
    /// A finding that is known, such as T006, or T006:NAME for one route, key or file only; may be repeated
    #[arg(long, value_name = "CODE", value_parser = config::Ignored::parse)]
    pub ignore: Vec<config::Ignored>,
    /// In which form to tell
    #[arg(long, value_enum, default_value_t)]
    pub format: CheckFormat,
}

/// In which form `tollgate check` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
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
    /// Put a user into groups or take one out of them, at once; without either, show the groups
    Groups(UserGroups),
    /// Delete a user for ever
    Delete(UserName),
    /// Take over users with their password hashes from a file or the database of a Django application
    Import(ImportFrom),
}

/// Which groups to change.
#[derive(Args, Debug)]
pub struct UserGroups {
    /// The login name
    pub name: String,
    /// A group to put the user into; may be repeated
    #[arg(long, value_name = "GROUP")]
    pub add: Vec<String>,
    /// A group to take the user out of; may be repeated
    #[arg(long, value_name = "GROUP")]
    pub remove: Vec<String>,
}

/// Whom to import.
#[derive(Args, Debug)]
pub struct ImportFrom {
    /// A file, a URL that begins with sqlite://, postgres:// or mysql://, or "-" for a URL on standard input
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

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionVerb {
    /// List sessions, the latest first
    List {
        /// Only those of this user
        #[arg(long, value_name = "U")]
        user: Option<String>,
    },
    /// End sessions: none of their tokens passes any more
    Revoke(WhichSessions),
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Bring the schema up to date, as every start does
    Migrate,
    /// Write everything that is in the store into a new file, which then holds password hashes
    Export {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Read what was exported into a store that is empty
    Import {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Which sessions.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct WhichSessions {
    /// The id of one session
    pub sid: Option<String>,
    /// All sessions of a user, and whatever else was issued to the user
    #[arg(long, value_name = "U")]
    pub user: Option<String>,
    /// All sessions, and whatever else was issued
    #[arg(long)]
    pub all: bool,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Show what a token says and whether it would pass; exit code 0 says that it would
    Inspect {
        /// The token; read from standard input when it is left out or "-"
        token: Option<String>,
    },
    /// Print a new token, for tests and machines; it says who minted it
    Mint(MintArguments),
}

/// A token to be minted.
#[derive(Args, Debug)]
pub struct MintArguments {
    /// The login name of the user; while there are no users, any id
    #[arg(long, value_name = "U")]
    pub user: String,
    /// How long it is good, such as "5m" or "90d" [default: as for a login]
    #[arg(long, value_name = "D", value_parser = config::lifetime)]
    pub lifetime: Option<Duration>,
    /// A further claim; the value is JSON, or else text; may be given several times
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = super::mint::parse_claim)]
    pub claims: Vec<(String, Value)>,
    /// A refresh token instead of an access token
    #[arg(long)]
    pub refresh: bool,
}

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub enum CertVerb {
    /// Write a certificate that nobody has signed, with its key, and print its lines for the configuration
    SelfSigned(NewCertificate),
}

/// A certificate to be made.
#[derive(Args, Debug)]
pub struct NewCertificate {
    /// A name, a wildcard such as "*.example.com", or an IP address; may be given several times
    #[arg(long = "host", value_name = "NAME", required = true, value_parser = super::cert::parse_host)]
    pub hosts: Vec<CertificateHost>,
    /// Where cert.pem and key.pem are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out_dir: PathBuf,
    /// How many days it is good
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
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
        assert!(matches!(parsed("tollgate run").unwrap().verb, Some(Verb::Run { take_over: false })));
        for line in ["tollgate --config a.toml check", "tollgate validate --config a.toml"] {
            let arguments = parsed(line).unwrap();
            assert!(matches!(arguments.verb, Some(Verb::Check(_))));
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
    fn a_token_and_a_key_are_described_exactly() {
        let line = "tollgate token mint --user m --lifetime 5m --claim a=1 --claim b=x --refresh";
        let Some(Verb::Token(TokenVerb::Mint(mint))) = parsed(line).unwrap().verb else {
            panic!("another verb");
        };
        assert_eq!((mint.lifetime, mint.refresh), (Some(Duration::from_mins(5)), true));
        assert_eq!(mint.claims, [("a".to_owned(), 1.into()), ("b".to_owned(), "x".into())]);
        for line in
            ["token mint --user m --lifetime 5", "token mint --user m --claim a", "key generate --alg RS1"]
        {
            assert_eq!(
                parsed(&format!("tollgate {line}")).unwrap_err(),
                ErrorKind::ValueValidation,
                "{line}"
            );
        }
        assert_eq!(parsed("tollgate token mint").unwrap_err(), ErrorKind::MissingRequiredArgument);
        assert!(matches!(
            parsed("tollgate key export-jwks").unwrap().verb,
            Some(Verb::Key(KeyVerb::ExportJwks))
        ));
    }

    #[test]
    fn a_certificate_has_hosts_and_an_end() {
        let line = "tollgate cert self-signed --host a.test --host ::1 --out-dir tls --days 7 --force";
        let Some(Verb::Cert(CertVerb::SelfSigned(wanted))) = parsed(line).unwrap().verb else {
            panic!("another verb");
        };
        assert_eq!((wanted.hosts.len(), wanted.days, wanted.force), (2, 7, true));
        assert_eq!(parsed("tollgate cert self-signed").unwrap_err(), ErrorKind::MissingRequiredArgument);
        for more in ["--host https://a", "--host a --days 0", "--host a --days 4000"] {
            let error = parsed(&format!("tollgate cert self-signed {more}")).unwrap_err();
            assert_eq!(error, ErrorKind::ValueValidation, "{more}");
        }
    }

    #[test]
    fn what_is_not_built_is_no_verb() {
        for verb in ["proxy", "serve"] {
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
          check          Check the configuration, show who may use what, run its tests [alias: validate]
          explain        Explain what becomes of a request, or why one was refused
          user           Add, list and change users, also while the gateway runs
          session        List and end sessions, also while the gateway runs
          store          Bring the store's schema up to date, and move a store from one database to another
          token          Look into tokens, and make some without a login
          key            Make, list and export keys
          cert           Make a certificate to try TLS with
          bench          Test how much a URL bears, through the gateway and past it, by users who log in
          hash-password  Print the hash of a password, which is read from a prompt or standard input
          reload         Have a running gateway read its configuration again, and say what changes
          health         Ask a running gateway whether it is ready; exit code 0 says that it is
          schema         Print the JSON Schema of the configuration, for editors
          completions    Print a completion script for a shell

        Options:
              --config <FILE>  The configuration [default: $TOLLGATE_CONFIG, or gateway.toml]
          -h, --help           Print help
          -V, --version        Print version
        "#);
    }
}
