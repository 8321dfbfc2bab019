"""The operator's console, on `/admin` of the admin listener (docs/operations/console.md).

How a page is added:

1. A file of this room (`limits_page.py`) with a class that is given what it reads and writes, and
   a method `pages() -> Sequence[ConsolePage]`.  A page has an address (`/admin/limits`, or
   `/admin/users/{id}`), a title, the entry of the navigation it stands under, `show`, which
   answers a GET by a `View` (a template of `templates/` and its values), and `actions`: each is a
   POST to the page's own address with `<input type="hidden" name="do" value="NAME">`, answered by
   `Acted` (its audit events, and where the browser is led) or `NotDone` (the page is shown again
   with a sentence).  A secret that is shown once is `Acted(view=…)`.
2. Its template extends `console.html` and fills `main`; tables, forms, the pager and notices are
   the macros of `parts.html`.  A form is `{% call parts.action(page, "disable") %}…{% endcall %}`:
   it carries the proof of intent.  No style and no script stands in a template (the policy of
   the console lets neither run): classes of `console.css`, attributes of htmx.
3. `app/console.py` puts it into the list; `tests/edge/console/` tries it, `tests/browser/
   test_console.py` looks at it with axe.

Laws.  GET changes nothing.  A page needs `admin:read` and an action `admin:write`, unless they say
otherwise.  Each action returns at least one audit event; `console.py` writes who did it into them.
Lists are paged by the key of the last row (`keyset.py`), never by an offset, and `LIMIT` is one
more than is shown.  What a store does not answer (StoreUnavailable) is a page that says so.
"""
