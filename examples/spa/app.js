// A page behind `sign_in: page`.  It knows nothing of signing in, and keeps nothing: whoever sees it
// is signed in, by a cookie that no script can read and that the gateway renews by itself.
"use strict";

const at = (id) => document.getElementById(id);

async function call(method, path) {
  const answer = await fetch(path, { method, headers: { Accept: "application/json" } });
  // The session is over.  The browser asks for this very page again, is led to sign in, and comes
  // back to where it was.
  if (answer.status === 401) {
    location.reload();
    return new Promise(() => {});
  }
  return answer.json();
}

// Who is signed in is asked, never remembered: another tab may have changed it.
async function look() {
  const account = await call("GET", "/auth/me");
  const until = new Date(account.expires_at * 1000);
  at("status").textContent = "Signed in as " + account.email;
  at("good-until").dateTime = until.toISOString();
  at("good-until").textContent = until.toLocaleTimeString();
}

async function callTheApi() {
  const said = await call("GET", "/api" + location.pathname);
  at("answer").textContent = JSON.stringify(said, null, 2);
  return look();
}

at("place").textContent = location.pathname;
at("call").onclick = callTheApi;
document.onvisibilitychange = () => document.visibilityState === "visible" && look();
look();
