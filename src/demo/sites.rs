//! Who lives at home and who works at work.

use super::rows::Amounts;
use super::words::{self, Theme};

/// One of the two sites.
pub(super) struct Site {
    pub(super) name: &'static str,
    pub(super) teams: &'static [Team],
    pub(super) people: &'static [Person],
    pub(super) amounts: Amounts,
}

pub(super) struct Team {
    pub(super) name: &'static str,
    pub(super) theme: &'static Theme,
}

pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) display_name: &'static str,
    /// The team that the person writes for most comes first.
    pub(super) teams: &'static [&'static str],
    pub(super) personal: &'static Theme,
    /// How much the person writes compared with the others.
    pub(super) weight: u32,
}

impl Site {
    pub(super) fn rows(&self) -> usize {
        self.amounts.tasks + self.amounts.notes + self.amounts.memory
    }
}

/// API, federation and enrolment ports that are taken if they are free: the defaults at home, ten above at work.
pub(super) fn ports(site: &str) -> [u16; 3] {
    if site == "home" { [8640, 8643, 8644] } else { [8650, 8653, 8654] }
}

const fn person(
    name: &'static str,
    display_name: &'static str,
    teams: &'static [&'static str],
    personal: &'static Theme,
    weight: u32,
) -> Person {
    Person { name, display_name, teams, personal, weight }
}

pub(super) const SITES: [Site; 2] = [
    Site {
        name: "home",
        teams: &[Team { name: "family", theme: &words::FAMILY }, Team { name: "garden", theme: &words::GARDEN }],
        people: &[
            person("ada", "Ada Okafor", &["family", "garden"], &words::HOUSE, 6),
            person("sam", "Sam Lindqvist", &["family", "garden"], &words::HOUSE, 4),
            person("kim", "Kim Okafor", &["family"], &words::FAMILY, 2),
        ],
        amounts: Amounts { tasks: 520, notes: 260, memory: 320 },
    },
    Site {
        name: "work",
        teams: &[
            Team { name: "platform", theme: &words::PLATFORM },
            Team { name: "product", theme: &words::PRODUCT },
            Team { name: "office", theme: &words::OFFICE },
        ],
        people: &[
            person("ada", "Ada Okafor", &["platform", "product"], &words::PLATFORM, 7),
            person("bo", "Bo Castellanos", &["platform"], &words::PLATFORM, 9),
            person("chen", "Chen Wei", &["product"], &words::PRODUCT, 6),
            person("dalia", "Dalia Haddad", &["platform", "office"], &words::OFFICE, 5),
            person("emre", "Emre Aydin", &["product"], &words::PRODUCT, 4),
            person("fay", "Fay Moreau", &["office"], &words::OFFICE, 2),
        ],
        amounts: Amounts { tasks: 1_800, notes: 640, memory: 560 },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_in_teams_that_exist() {
        for site in &SITES {
            for person in site.people {
                for team in person.teams {
                    assert!(site.teams.iter().any(|known| known.name == *team), "{} {}", person.name, team);
                }
            }
        }
    }
}
