// Of what the visitor asked for one after the other, only the last thing counts.

/** Return `run(task, failed)`: it aborts the signal of the task before, then awaits
 * `task(signal)`; `failed(error)` is told of a failure, but not of being aborted. */
export function onlyLatest(outer) {
  let last = null;
  return async (task, failed) => {
    last?.abort();
    const own = new AbortController();
    last = own;
    try {
      await task(AbortSignal.any([outer, own.signal]));
    } catch (error) {
      if (error.name !== "AbortError") failed(error);
    }
  };
}
