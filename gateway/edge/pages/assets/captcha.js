// Solves the challenge of the form (ALTCHA, version 2: PBKDF2) while its visitor types.
"use strict";
(() => {
  const field = document.getElementById("captcha");
  const state = document.getElementById("captcha-state");
  if (!field || !window.crypto || !crypto.subtle) return;
  const form = field.form;
  const challenge = JSON.parse(field.dataset.challenge);
  const asked = challenge.parameters;
  const bytes = (hex) => Uint8Array.from(hex.match(/../g), (two) => parseInt(two, 16));
  const hex = (buffer) =>
    Array.from(new Uint8Array(buffer), (one) => one.toString(16).padStart(2, "0")).join("");

  async function derive(counter) {
    const nonce = bytes(asked.nonce);
    const password = new Uint8Array(nonce.length + 4);
    password.set(nonce);
    new DataView(password.buffer).setUint32(nonce.length, counter);
    const key = await crypto.subtle.importKey("raw", password, "PBKDF2", false, ["deriveBits"]);
    return hex(await crypto.subtle.deriveBits(
      { name: "PBKDF2", hash: asked.algorithm.split("/")[1], salt: bytes(asked.salt), iterations: asked.cost },
      key, asked.keyLength * 8));
  }

  async function solve() {
    const began = performance.now();
    for (let counter = 0; ; counter += 1) {
      const derivedKey = await derive(counter);
      if (derivedKey.startsWith(asked.keyPrefix)) {
        return { counter, derivedKey, time: Math.round(performance.now() - began) };
      }
    }
  }

  state.textContent = state.dataset.working;
  const solved = solve().then((solution) => {
    field.value = btoa(JSON.stringify({ challenge, solution }));
    state.textContent = state.dataset.solved;
  }, () => { state.textContent = state.dataset.failed; });
  form.addEventListener("submit", (event) => {
    if (field.value) return;
    event.preventDefault();
    solved.then(() => form.submit());
  });
})();
