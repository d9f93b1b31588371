import { call, root } from "./api.js";

// Live events of whoever is signed in. `reset`: something may have been missed, also between the page's own answer and
// the first connection: read everything again.
// A tab that nobody looks at does not listen: browsers allow six connections to a server, over all tabs.
export function listen({ uploaded, changed, deleted, reset, state } = {}) {
  const takers = { uploaded, changed, deleted, reset };
  let source = null;
  let timer = 0;

  function open() {
    if (source || document.hidden) return;
    source = new EventSource(new URL("v1/events", root));
    source.addEventListener("open", () => {
      state?.(true);
      reset?.();
    });
    source.addEventListener("error", () => {
      state?.(false);
      // Refused for now (too many listen, the server restarts): the browser does not come back by itself.
      if (source?.readyState === EventSource.CLOSED) {
        stop();
        timer = setTimeout(open, 30_000);
        // Signed out elsewhere: what this page shows is no longer for whoever sits here.
        call("GET", "v1/usage").catch((problem) => problem.status === 401 && location.reload());
      }
    });
    for (const [name, take] of Object.entries(takers)) {
      if (take) source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    }
  }

  function stop() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  const look = () => (document.hidden ? stop() : open());
  document.addEventListener("visibilitychange", look);
  // A page that the browser keeps for the way back holds no connection either.
  addEventListener("pagehide", stop);
  addEventListener("pageshow", open);
  open();
  return {
    close() {
      document.removeEventListener("visibilitychange", look);
      removeEventListener("pagehide", stop);
      removeEventListener("pageshow", open);
      stop();
    },
  };
}
