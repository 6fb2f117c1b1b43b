//! The rows of one site: a function of its people, a seed and the day.

use serde::Serialize;
use time::{Duration, OffsetDateTime, Time};
use uuid::Uuid;

use super::chance::Chance;
use super::words::Theme;

/// Rows reach this far back.
const DAYS: i64 = 240;

/// A person who writes rows.
pub(crate) struct Writer {
    /// How much this person writes compared with the others.
    pub(crate) weight: u32,
    /// What the person writes for nobody else.
    pub(crate) personal: &'static Theme,
    pub(crate) teams: Vec<TeamOfWriter>,
}

pub(crate) struct TeamOfWriter {
    pub(crate) id: Uuid,
    pub(crate) theme: &'static Theme,
}

/// How many rows of each resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amounts {
    pub(crate) tasks: usize,
    pub(crate) notes: usize,
    pub(crate) memory: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TaskRow {
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    pub(crate) team_id: Option<Uuid>,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) status: &'static str,
    pub(crate) priority: u8,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) due_at: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct NoteRow {
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    pub(crate) team_id: Option<Uuid>,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) tags: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MemoryRow {
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    pub(crate) team_id: Option<Uuid>,
    pub(crate) kind: &'static str,
    pub(crate) content: String,
    pub(crate) importance: f32,
}

/// What one person wrote: lines of JSON per resource, as the import takes them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) tasks: Vec<u8>,
    pub(crate) notes: Vec<u8>,
    pub(crate) memory: Vec<u8>,
}

/// Everything that the writers of a site wrote up to `now`, in the order of `writers`.
pub(crate) fn write_rows(writers: &[Writer], amounts: Amounts, seed: u64, now: OffsetDateTime) -> Vec<Written> {
    let mut chance = Chance::new(seed);
    let mut written = vec![Written::default(); writers.len()];
    let who: Vec<usize> = (0..writers.len()).collect();
    let weights: Vec<u32> = writers.iter().map(|writer| writer.weight).collect();
    for _ in 0..amounts.tasks {
        let writer = *chance.weighted(&who, &weights);
        line(&mut written[writer].tasks, &task(&mut chance, &writers[writer], now));
    }
    for _ in 0..amounts.notes {
        let writer = *chance.weighted(&who, &weights);
        line(&mut written[writer].notes, &note(&mut chance, &writers[writer], now));
    }
    for _ in 0..amounts.memory {
        let writer = *chance.weighted(&who, &weights);
        line(&mut written[writer].memory, &memory(&mut chance, &writers[writer], now));
    }
    written
}

fn line<T: Serialize>(lines: &mut Vec<u8>, row: &T) {
    serde_json::to_writer(&mut *lines, row).expect("invariant: sample rows are JSON");
    lines.push(b'\n');
}

fn task(chance: &mut Chance, writer: &Writer, now: OffsetDateTime) -> TaskRow {
    let (team_id, theme) = place(chance, writer);
    let created_at = moment(chance, now);
    let old = now - created_at > Duration::days(21);
    let status =
        *chance.weighted(&["open", "in_progress", "blocked", "done"], if old { &[2, 1, 1, 16] } else { &[9, 5, 2, 4] });
    let due = chance.once_in(3).then(|| Duration::days(1 + i64::try_from(chance.below(40)).unwrap_or(0)));
    TaskRow {
        created_at,
        team_id,
        title: title(chance, theme),
        body: sentences(chance, theme, 3),
        status,
        priority: *chance.weighted(&[1, 2, 3, 4, 5], &[1, 3, 8, 3, 1]),
        due_at: due.map(|due| (created_at + due).replace_time(Time::MIDNIGHT) + Duration::hours(17)),
    }
}

fn note(chance: &mut Chance, writer: &Writer, now: OffsetDateTime) -> NoteRow {
    let (team_id, theme) = place(chance, writer);
    let mut tags: Vec<&'static str> = (0..chance.below(3)).map(|_| *chance.pick(theme.tags)).collect();
    tags.sort_unstable();
    tags.dedup();
    let created_at = moment(chance, now);
    let subject = *chance.pick(theme.notes);
    // A weekly note or a list exists many times, told apart by its day, as people do.
    let title = if chance.once_in(3) { subject.to_owned() } else { format!("{subject}, {}", created_at.date()) };
    NoteRow { created_at, team_id, title, body: sentences(chance, theme, 6), tags }
}

fn memory(chance: &mut Chance, writer: &Writer, now: OffsetDateTime) -> MemoryRow {
    let (team_id, theme) = place(chance, writer);
    let kind = *chance.weighted(&["fact", "preference", "decision", "episode"], &[6, 3, 2, 3]);
    let content = match kind {
        "episode" => format!("Talked about {}. {}", chance.pick(theme.topics), chance.pick(theme.sentences)),
        _ => (*chance.pick(theme.memories)).to_owned(),
    };
    // One decimal: people do not weigh finer.
    let importance = (1 + chance.below(9)) as f32 / 10.0;
    MemoryRow { created_at: moment(chance, now), team_id, kind, content, importance }
}

/// Two thirds of what people write belongs to one of their teams, the first of them most.
fn place(chance: &mut Chance, writer: &Writer) -> (Option<Uuid>, &'static Theme) {
    if writer.teams.is_empty() || chance.once_in(3) {
        return (None, writer.personal);
    }
    let weights: Vec<u32> = (0..writer.teams.len()).map(|rank| 6 / (u32::try_from(rank).unwrap_or(5) + 1)).collect();
    let team = chance.weighted(&writer.teams, &weights);
    (Some(team.id), team.theme)
}

/// A moment of the last months: recent ones more often, by day more than by night.
fn moment(chance: &mut Chance, now: OffsetDateTime) -> OffsetDateTime {
    let back = chance.fraction().powi(2) * DAYS as f64;
    let day = now - Duration::seconds_f64(back * 86_400.0);
    let hour = *chance.weighted(&[8, 9, 10, 11, 13, 14, 15, 16, 18, 21], &[3, 6, 6, 4, 3, 6, 5, 4, 2, 2]);
    let (minute, second) = (chance.below(60), chance.below(60));
    let micros = u32::try_from(chance.below(1_000_000)).unwrap_or(0);
    let time = Time::from_hms_micro(hour, small(minute), small(second), micros).unwrap_or(Time::MIDNIGHT);
    let moment = day.replace_time(time);
    if moment < now { moment } else { moment - Duration::days(1) }
}

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(0)
}

fn title(chance: &mut Chance, theme: &Theme) -> String {
    let (verbs, objects) = chance.pick(theme.tasks);
    let (verb, object, detail) = (chance.pick(verbs), chance.pick(objects), chance.pick(theme.details));
    format!("{verb} {object} {detail}").trim_end().to_owned()
}

fn sentences(chance: &mut Chance, theme: &Theme, most: usize) -> String {
    let count = chance.below(most + 1);
    (0..count).map(|_| *chance.pick(theme.sentences)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use time::macros::datetime;

    use super::super::words;
    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

    fn writers() -> Vec<Writer> {
        let team = |id, theme| TeamOfWriter { id: Uuid::from_u128(id), theme };
        vec![
            Writer {
                weight: 5,
                personal: &words::OFFICE,
                teams: vec![team(1, &words::PLATFORM), team(2, &words::PRODUCT)],
            },
            Writer { weight: 1, personal: &words::OFFICE, teams: Vec::new() },
        ]
    }

    fn tasks(written: &Written) -> Vec<serde_json::Value> {
        written.tasks.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    #[test]
    fn the_same_seed_and_day_write_the_same_rows() {
        let amounts = Amounts { tasks: 30, notes: 20, memory: 10 };
        assert_eq!(write_rows(&writers(), amounts, 1, NOW), write_rows(&writers(), amounts, 1, NOW));
        assert_ne!(write_rows(&writers(), amounts, 1, NOW), write_rows(&writers(), amounts, 2, NOW));
    }

    #[test]
    fn owners_and_teams_are_skewed_and_rows_spread_over_months() {
        let written = write_rows(&writers(), Amounts { tasks: 600, notes: 0, memory: 0 }, 1, NOW);
        let (ada, bo) = (tasks(&written[0]), tasks(&written[1]));
        assert_eq!(ada.len() + bo.len(), 600);
        assert!(ada.len() > 3 * bo.len(), "{} {}", ada.len(), bo.len());
        let mut teams: BTreeMap<String, usize> = BTreeMap::new();
        for task in &ada {
            *teams.entry(task["team_id"].as_str().unwrap_or("personal").to_owned()).or_default() += 1;
        }
        assert_eq!(teams.len(), 3);
        assert!(bo.iter().all(|task| task["team_id"].is_null()));
        let months: std::collections::BTreeSet<&str> =
            ada.iter().map(|task| &task["created_at"].as_str().unwrap()[..7]).collect();
        assert!(months.len() >= 6, "{months:?}");
        assert!(ada.iter().all(|task| task["created_at"].as_str().unwrap() < "2026-11-20T12:00:00"));
    }
}
