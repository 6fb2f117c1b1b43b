//! Chance that comes out the same every time: the demo's rows are a function of a seed.

/// SplitMix64 (Steele, Lea, Flood 2014): small, good enough for sample data, and of no use for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to `bound`, which is not reached.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("invariant: a usize fits 64 bits");
        usize::try_from(self.next() % bound).expect("invariant: below a usize")
    }

    /// From 0.0 up to 1.0, which is not reached.
    pub(crate) fn fraction(&mut self) -> f64 {
        // 53 bits: all that a double's mantissa holds.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// An element by weight; `weights` are as many as elements and not all zero.
    pub(crate) fn weighted<'a, T>(&mut self, from: &'a [T], weights: &[u32]) -> &'a T {
        let total: u32 = weights.iter().sum();
        let mut left = self.below(usize::try_from(total).unwrap_or(1));
        for (element, weight) in from.iter().zip(weights) {
            let weight = usize::try_from(*weight).unwrap_or(0);
            if left < weight {
                return element;
            }
            left -= weight;
        }
        &from[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let mut chance = Chance::new(1_234_567);
        // The first values of the reference implementation for this seed.
        assert_eq!([chance.next(), chance.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn weights_decide_how_often() {
        let mut chance = Chance::new(7);
        let heavy = (0..1000).filter(|_| *chance.weighted(&["a", "b", "c"], &[8, 2, 0]) == "a").count();
        assert!((740..860).contains(&heavy), "{heavy}");
        assert!((0..1000).all(|_| *chance.weighted(&["a", "b", "c"], &[8, 2, 0]) != "c"));
    }
}
