//! Functions that go to where the keys and values are, and run there on all processors.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::DDict;
use super::encode::decode;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::task::thunk::Captures;
use crate::wire::Message;

impl<K: Send + 'static, V: Send + 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// The keys and values of which `wanted` says so, in no order. It runs where they are, on all processors of that node;
    /// only what is wanted is copied. Like a function for a [pool](crate::Pool) it captures nothing: what it needs is in the
    /// context.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let dict: dragon::DDict<u32, String> = dragon::DDict::new()?;
    /// dict.batch(|batch| (0..100).try_for_each(|n| batch.put(&n, &"x".repeat(n as usize))))?;
    /// let mut long = dict.filter(|least: &usize, _: &u32, value: &String| value.len() >= *least, &98)?;
    /// long.sort();
    /// assert_eq!(long.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [98, 99]);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`iter`](DDict::iter). A panic of `wanted` is the caller's.
    pub fn filter<X, F>(&self, wanted: F, context: &X) -> Result<Vec<(K, V)>>
    where
        X: Message + Sync,
        F: Fn(&X, &K, &V) -> bool + Copy + Send + Sync + 'static,
    {
        const { Captures::<F>::NOTHING };
        if let Some(tie) = &self.tie {
            return self.far_filter(&tie.map, wanted, context);
        }
        let view = self.here();
        let lists: Vec<Vec<(K, V)>> = self
            .parts()
            .into_par_iter()
            .map(|(manager, part)| {
                let mut list = Vec::new();
                self.walk_part(manager, part, view, |item| {
                    let (key, value) = (decode::<K, C>(item.key)?, decode::<V, C>(item.value)?);
                    if wanted(context, &key, &value) {
                        list.push((key, value));
                    }
                    Ok(())
                })?;
                Ok(list)
            })
            .collect::<Result<_>>()?;
        self.still_there(view.at)?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// What `map` makes of each key and value, put together by `reduce`, in no order; nothing if there are none. Both run
    /// where the values are, on all processors of that node, and capture nothing.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let dict: dragon::DDict<u32, Vec<f64>> = dragon::DDict::new()?;
    /// dict.batch(|batch| (1..=4).try_for_each(|n| batch.put(&n, &vec![f64::from(n); 10])))?;
    /// let sum = dict.map_reduce(|_, values| values.iter().sum::<f64>(), |a, b| a + b)?;
    /// assert_eq!(sum, Some(100.0));
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`iter`](DDict::iter). A panic of either is the caller's.
    pub fn map_reduce<R, F, G>(&self, map: F, reduce: G) -> Result<Option<R>>
    where
        R: Message,
        F: Fn(&K, &V) -> R + Copy + Send + Sync + 'static,
        G: Fn(R, R) -> R + Copy + Send + Sync + 'static,
    {
        const { Captures::<F>::NOTHING };
        const { Captures::<G>::NOTHING };
        if let Some(tie) = &self.tie {
            return self.far_map_reduce(&tie.map, map, reduce);
        }
        let view = self.here();
        let together = |a: Option<R>, b: Option<R>| match (a, b) {
            (Some(a), Some(b)) => Some(reduce(a, b)),
            (a, b) => a.or(b),
        };
        let reduced = self
            .parts()
            .into_par_iter()
            .map(|(manager, part)| {
                let mut sum = None;
                self.walk_part(manager, part, view, |item| {
                    let (key, value) = (decode::<K, C>(item.key)?, decode::<V, C>(item.value)?);
                    sum = together(sum.take(), Some(map(&key, &value)));
                    Ok(())
                })?;
                Ok::<_, Error>(sum)
            })
            .try_reduce(|| None, |a, b| Ok(together(a, b)))?;
        self.still_there(view.at)?;
        Ok(reduced)
    }
}
