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
// A table that grows at its top forgets its oldest rows.
document.addEventListener("htmx:sseMessage", () => {
  for (const body of document.querySelectorAll("[data-rows-max]")) {
    while (body.rows.length > Number(body.dataset.rowsMax)) body.deleteRow(-1);
  }
});
