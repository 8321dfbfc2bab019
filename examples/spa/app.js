// Everything that a page needs to sign people in through the gateway.  It keeps nothing: the
// session is a cookie that no script can read, and the gateway renews it by itself.
"use strict";

const at = (id) => document.getElementById(id);
const tabs = new BroadcastChannel("session");

// Browsers that send neither Sec-Fetch-Site nor Origin prove with this token that a call was
// meant; for all others it is not needed.
let csrfToken = "";

async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (csrfToken && method !== "GET") headers["X-CSRF-Token"] = csrfToken;
  const answer = await fetch(path, {
    method,
    headers,
    credentials: "same-origin",
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, said: text ? JSON.parse(text) : {} };
}

function tell(text) {
  at("message").textContent = text;
  at("message").hidden = !text;
}

function show(account) {
  at("status").textContent = account ? "Signed in as " + account.email : "Signed out";
  at("signing-in").hidden = Boolean(account) || !at("resetting").hidden || !at("confirming").hidden;
  at("signed-in").hidden = !account;
  if (!account) {
    at("answer").textContent = "";
    csrfToken = "";
    return;
  }
  const until = new Date(account.expires_at * 1000);
  at("good-until").dateTime = until.toISOString();
  at("good-until").textContent = until.toLocaleTimeString();
}

// Who is signed in is asked, never remembered: another tab may have changed it.
async function look() {
  const { status, said } = await call("GET", "/auth/me");
  if (status !== 200 && status !== 401) return tell(said.detail);
  if (status === 200 && !csrfToken) {
    csrfToken = (await call("GET", "/auth/csrf")).said.csrf_token || "";
  }
  return show(status === 200 ? said : null);
}

async function signIn(email, password) {
  const { status, said } = await call("POST", "/auth/login", { email, password, transport: "cookie" });
  if (status !== 200) return tell(said.detail);
  csrfToken = said.csrf_token;
  tell("");
  tabs.postMessage("changed");
  return look();
}

async function register(email, password) {
  const { status, said } = await call("POST", "/auth/register", { email, password });
  if (status === 201) return signIn(email, password);
  return tell(status === 202 ? "We have sent you a mail: open the link in it." : said.detail);
}

async function forgot(email) {
  const { status, said } = await call("POST", "/auth/password/forgot", { email });
  tell(status === 202 ? "If there is an account, a mail is on its way." : said.detail);
}

async function signOut() {
  // 503: the session is over, and not every worker has confirmed it yet.  Ask until they have.
  for (let tries = 0; tries < 10; tries += 1) {
    const { status, said } = await call("POST", "/auth/logout");
    if (status !== 503) break;
    tell(said.detail);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  tell("");
  tabs.postMessage("changed");
  return look();
}

async function callTheApi() {
  const { status, said } = await call("GET", "/api/hello");
  if (status === 401) return look();
  at("answer").textContent = JSON.stringify(said, null, 2);
  return look();
}

// A link that moves an account to another address counts alone.  The link of a registration
// counts together with the password that was chosen then, and 422 says that it is missing.
async function verify(body) {
  const { status, said } = await call("POST", "/auth/email/verify", body);
  at("confirming").hidden = status !== 422 && !(status === 401 && body.password);
  if (status !== 422) tell(status === 204 ? "Your address is confirmed. Sign in." : said.detail);
  return look();
}

async function reset(token, password) {
  const { status, said } = await call("POST", "/auth/password/reset", { token, password });
  if (status !== 204) return tell(said.detail);
  at("resetting").hidden = true;
  tell("Your password is changed. Sign in.");
  return look();
}

// A link from a mail carries its token behind the `#`, where no server and no log sees it.
async function open() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  const page = location.pathname;
  history.replaceState(null, "", "/");
  if (token && page === "/verify-email") {
    at("confirming").onsubmit = (event) => {
      event.preventDefault();
      verify({ token, password: at("named-password").value });
    };
    await verify({ token });
  }
  if (token && page === "/reset-password") {
    at("resetting").hidden = false;
    at("resetting").onsubmit = (event) => {
      event.preventDefault();
      reset(token, at("new-password").value);
    };
  }
  return look();
}

at("signing-in").onsubmit = (event) => {
  event.preventDefault();
  const work = { "sign-in": signIn, register, forgot }[event.submitter.value];
  work(at("email").value, at("password").value);
};
at("call").onclick = callTheApi;
at("sign-out").onclick = signOut;
tabs.onmessage = look;
document.onvisibilitychange = () => document.visibilityState === "visible" && look();
open();
