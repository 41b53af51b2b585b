//! `tollgate init`: writes a configuration to start from.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use super::error::{CommandError, Exit};
use crate::config::{self, Environment};

/// Writes a commented configuration with `upstream` as the only target. A file that exists is never touched.
///
/// # Errors
///
/// [`CommandError::Upstream`] when `upstream` is no target, [`CommandError::Exists`], [`CommandError::Write`].
pub fn init(
    path: &Path,
    upstream: &str,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let text = checked_starter(upstream, environment)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(CommandError::Exists(path.to_owned()));
        }
        Err(error) => return Err(CommandError::Write(path.to_owned(), error)),
    }
    let name = path.display();
    writeln!(out, "wrote {name}; next:\n  tollgate user add NAME\n  tollgate run")
        .map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

/// The text, if it loads. The only thing in it that may be wrong is the target.
fn checked_starter(upstream: &str, environment: &Environment) -> Result<String, CommandError> {
    let text = config::starter(upstream);
    match config::parse(&text, "gateway.toml", Path::new(""), environment) {
        Ok(_) => Ok(text),
        Err(failure) => Err(match failure.problems().first() {
            Some(problem) => CommandError::Upstream(problem.message.clone(), problem.hint.clone()),
            None => CommandError::Config(failure),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn what_is_written_loads_and_is_never_written_over() {
        let scratch = Scratch::new();
        let (path, environment, mut out) = (scratch.path("g.toml"), Environment::default(), Vec::new());
        init(&path, "http://127.0.0.1:9000", &environment, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().starts_with("wrote "));
        let config = config::load(&path, &environment).unwrap();
        assert_eq!(config.upstreams[0].targets[0].target.authority(), "127.0.0.1:9000");
        let before = std::fs::read(&path).unwrap();
        let again = init(&path, "http://10.0.0.1", &environment, &mut Vec::new());
        assert!(matches!(again, Err(CommandError::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_bad_target_is_told_and_nothing_is_written() {
        let scratch = Scratch::new();
        let path = scratch.path("g.toml");
        for (upstream, told) in [
            (
                "backend:9000",
                "--upstream: \"backend:9000\" is not a target\n  = help: did you mean \"http://backend:9000\"?",
            ),
            (
                "ftp://backend",
                "--upstream: \"ftp://backend\" is not a target\n  = help: a target is \"http://host:port\", \"https://host:port\", \"h2c://host:port\" or \"unix:/path\"",
            ),
        ] {
            let error = init(&path, upstream, &Environment::default(), &mut Vec::new()).unwrap_err();
            assert_eq!(error.to_string(), told);
            assert_eq!(error.exit(), Exit::Usage);
        }
        for upstream in ["", "x\"]\nx = [\"", "http://h/path", "${NOT_SET}"] {
            let outcome = init(&path, upstream, &Environment::default(), &mut Vec::new());
            assert!(matches!(outcome, Err(CommandError::Upstream(..))), "{upstream}");
        }
        assert!(!path.exists());
    }
}
