// Asks the browser for a passkey in the place of a form's visitor, and sends the form with it.
//
// <form data-passkey="get|create" data-options="/path" hidden> with the fields `challenge_token` and
// `credential`, and an element of role status that has the texts.  With `data-given` the options are
// there already; with `data-autofill` the browser offers passkeys in a field `username webauthn`.
"use strict";
(() => {
  if (!window.PublicKeyCredential || !navigator.credentials) return;

  const bytes = (text) =>
    Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (one) => one.charCodeAt(0));
  const text = (buffer) =>
    btoa(Array.from(new Uint8Array(buffer), (one) => String.fromCharCode(one)).join(""))
      .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const named = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));

  // Not parse…OptionsFromJSON() and toJSON(): older browsers and some password managers lack them.
  const OPTIONS = {
    create: (json) => ({
      ...json,
      challenge: bytes(json.challenge),
      user: { ...json.user, id: bytes(json.user.id) },
      excludeCredentials: named(json.excludeCredentials),
    }),
    get: (json) => ({
      ...json,
      challenge: bytes(json.challenge),
      allowCredentials: named(json.allowCredentials),
    }),
  };
  const ANSWERS = {
    create: (response) => ({
      attestationObject: text(response.attestationObject),
      transports: response.getTransports ? response.getTransports() : [],
    }),
    get: (response) => ({
      authenticatorData: text(response.authenticatorData),
      signature: text(response.signature),
      userHandle: response.userHandle ? text(response.userHandle) : null,
    }),
  };

  let pending = null;

  async function options(form) {
    if (form.dataset.given) return JSON.parse(form.dataset.given);
    const token = form.elements.mfa_token;
    const answer = await fetch(form.dataset.options, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(token ? { mfa_token: token.value } : {}),
    });
    if (answer.status === 400 || answer.status === 401) {
      form.submit(); // without a passkey: the page says what has to come first
      return new Promise(() => {});
    }
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }

  async function send(form, mediation) {
    const kind = form.dataset.passkey;
    if (pending) pending.abort();
    const mine = (pending = new AbortController());
    const asked = await options(form);
    let again;
    if (mediation === "conditional") {
      // A challenge is over before its visitor may have looked at the page.
      again = setTimeout(() => { mine.abort(); offer(form); }, asked.expires_in * 800);
    }
    try {
      const credential = await navigator.credentials[kind]({
        publicKey: OPTIONS[kind](asked.public_key),
        signal: mine.signal,
        ...(mediation && { mediation }),
      });
      form.elements.challenge_token.value = asked.challenge_token;
      form.elements.credential.value = JSON.stringify({
        id: credential.id,
        rawId: text(credential.rawId),
        type: credential.type,
        clientExtensionResults: credential.getClientExtensionResults(),
        response: {
          clientDataJSON: text(credential.response.clientDataJSON),
          ...ANSWERS[kind](credential.response),
        },
      });
      form.submit();
    } finally {
      clearTimeout(again);
    }
  }

  async function offer(form) {
    const available = PublicKeyCredential.isConditionalMediationAvailable;
    if (!available || !(await available.call(PublicKeyCredential))) return;
    try {
      await send(form, "conditional");
    } catch {
      // Nobody has asked for it: nobody is told.
    }
  }

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const state = form.querySelector("[role=status]");
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      state.textContent = "";
      send(form).catch((error) => {
        const told = { NotAllowedError: "cancelled", InvalidStateError: "known" }[error.name];
        state.textContent = state.dataset[told] || state.dataset.failed;
      });
    });
    if ("autofill" in form.dataset) offer(form);
  }
})();
