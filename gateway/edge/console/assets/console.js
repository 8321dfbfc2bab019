"use strict";
// The address that `gateway dev` prints holds the local token behind its #, which is sent to nobody:
// it is put into the form, taken out of the address and of the history, and sent.
(() => {
  const form = document.getElementById("sign-in");
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!form || !given) return;
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.token.value = given;
  form.requestSubmit();
})();
// An answer that is a refusal is shown whole: the session may be over.
document.addEventListener("htmx:responseError", () => location.reload());
