//! The command line: `mosaic-bench [--quick] [--list] [--node FILE] [CASE …]`.

use std::path::PathBuf;

use crate::Effort;
use crate::cases;

/// What is to be run.
pub(crate) struct Asked {
    pub(crate) effort: Effort,
    /// Names, or beginnings of names; none means all.
    pub(crate) cases: Vec<String>,
    pub(crate) list: bool,
    /// Another build of the node than the one beside this program.
    pub(crate) node: Option<PathBuf>,
}

impl Asked {
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self { effort: Effort::Full, cases: Vec::new(), list: false, node: None };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => asked.effort = Effort::Quick,
                "--list" => asked.list = true,
                "--node" => {
                    let file = arguments.next().ok_or_else(|| usage("--node wants a file"))?;
                    asked.node = Some(PathBuf::from(file));
                }
                flag if flag.starts_with('-') => return Err(usage(&format!("unknown option {flag}"))),
                names => asked.cases.extend(names.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned)),
            }
        }
        let known = |name: &String| {
            cases::ALL.iter().any(|case| case.name.starts_with(name.as_str()) || name.starts_with(case.name))
        };
        match asked.cases.iter().find(|name| !known(name)) {
            Some(unknown) => Err(usage(&format!("no case is called {unknown}"))),
            None => Ok(asked),
        }
    }
}

fn usage(problem: &str) -> String {
    let names: Vec<_> = cases::ALL.iter().map(|case| case.name).collect();
    format!("{problem}\nusage: mosaic-bench [--quick] [--list] [--node FILE] [CASE …]\ncases: {}", names.join(" "))
}
