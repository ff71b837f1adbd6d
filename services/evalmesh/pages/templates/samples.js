// Samples: a list that is drawn as far as it is seen, and one of them whole. What a model wrote becomes text nodes alone.
(() => {
  const byId = (id) => document.getElementById(id);
  if (!byId("browse")) return;
  const ROW = 54, NEAR = 12, GRADES = ["right", "wrong", "no_answer", "errored", "unscored", "not_run", "scored"];
  const list = byId("list"), rows = byId("rows"), sample = byId("sample"), find = byId("find");
  const ofBenchmark = byId("of-benchmark"), ofSubset = byId("of-subset"), ofGrade = byId("of-grade"), found = byId("found");
  const names = new Map(Array.from(ofBenchmark.options).filter((o) => o.value).map((o) => [Number(o.value), o.dataset.name]));
  const all = [], chunks = [], grades = new Set();
  let view = [], chosen = null, needle = "", searching = 0, naming = 0;

  // Unpacking

  async function unpack(element) {
    const letters = atob(element.textContent.trim());
    element.remove();
    const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
    let plain;
    if (typeof DecompressionStream === "function") {
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      plain = new Uint8Array(await new Response(stream).arrayBuffer());
    } else {
      plain = inflate(bytes.subarray(2));
    }
    return JSON.parse(new TextDecoder().decode(plain));
  }

  // RFC 1951, for browsers that cannot do it themselves.
  function inflate(data) {
    let at = 0, hold = 0, held = 0, size = 0, out = new Uint8Array(data.length * 6 + 1024);
    const bits = (count) => {
      while (held < count) { hold |= data[at++] << held; held += 8; }
      const value = hold & ((1 << count) - 1);
      hold >>>= count; held -= count;
      return value;
    };
    const room = (more) => {
      if (size + more <= out.length) return;
      const larger = new Uint8Array(Math.max(out.length * 2, size + more));
      larger.set(out); out = larger;
    };
    const tree = (lengths) => {
      const counts = new Uint16Array(16), offsets = new Uint16Array(16), symbols = new Uint16Array(lengths.length);
      for (const length of lengths) if (length) counts[length]++;
      for (let n = 1; n < 16; n++) offsets[n] = offsets[n - 1] + counts[n - 1];
      lengths.forEach((length, symbol) => { if (length) symbols[offsets[length]++] = symbol; });
      return { counts, symbols };
    };
    const symbol = ({ counts, symbols }) => {
      let code = 0, first = 0, index = 0;
      for (let length = 1; length < 16; length++) {
        code |= bits(1);
        if (code - counts[length] < first) return symbols[index + code - first];
        index += counts[length]; first = (first + counts[length]) << 1; code <<= 1;
      }
      throw new Error("damaged");
    };
    const fixed = () => [
      tree(Array.from({ length: 288 }, (_, n) => (n < 144 ? 8 : n < 256 ? 9 : n < 280 ? 7 : 8))), tree(Array(30).fill(5)),
    ];
    const dynamic = () => {
      const literals = bits(5) + 257, distances = bits(5) + 1, coded = bits(4) + 4, lengths = Array(19).fill(0), read = [];
      for (let n = 0; n < coded; n++) lengths[[16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15][n]] = bits(3);
      const code = tree(lengths);
      while (read.length < literals + distances) {
        const one = symbol(code);
        if (one < 16) { read.push(one); continue; }
        const value = one === 16 ? read[read.length - 1] : 0;
        for (let n = one === 16 ? 3 + bits(2) : one === 17 ? 3 + bits(3) : 11 + bits(7); n > 0; n--) read.push(value);
      }
      return [tree(read.slice(0, literals)), tree(read.slice(literals))];
    };
    const base = (value, step) => (value < 2 * step ? value : ((step + (value % step)) << (Math.floor(value / step) - 1)));
    const more = (value, step) => (value < 2 * step ? 0 : Math.floor(value / step) - 1);
    for (let last = 0; !last;) {
      last = bits(1);
      const kind = bits(2);
      if (kind === 0) {
        hold = held = 0;
        const length = data[at] | (data[at + 1] << 8);
        room(length); out.set(data.subarray(at + 4, at + 4 + length), size);
        at += 4 + length; size += length;
        continue;
      }
      const [literal, distance] = kind === 1 ? fixed() : dynamic();
      for (let one = symbol(literal); one !== 256; one = symbol(literal)) {
        if (one < 256) { room(1); out[size++] = one; continue; }
        const length = one === 285 ? 258 : 3 + base(one - 257, 4) + bits(more(one - 257, 4));
        const far = symbol(distance), back = 1 + base(far, 2) + bits(more(far, 2));
        room(length);
        for (let n = 0; n < length; n++, size++) out[size] = out[size - back];
      }
    }
    return out.subarray(0, size);
  }

  async function load() {
    const light = document.querySelectorAll("script[data-samples=light]"), full = document.querySelectorAll("script[data-samples=full]");
    const coming = Array.from(light, unpack);
    for (let n = 0; n < light.length; n++) {
      const benchmark = Number(light[n].dataset.benchmark), chunk = { element: full[n], columns: null, hay: null, promise: null };
      const columns = await coming[n];
      chunks.push(chunk);
      columns.id.forEach((id, place) => all.push({
        benchmark, chunk, place, id, repeat: columns.repeat[place], subset: columns.subset[place], grade: columns.grade[place],
        answer: columns.answer[place], target: columns.target[place], text: columns.text[place], score: columns.score[place],
        at: all.length,
      }));
    }
  }

  function whole(chunk) {
    chunk.promise ??= unpack(chunk.element).then((columns) => {
      const prompts = columns.prompt ?? [];
      (columns.shared ?? []).forEach((count, n) => { if (count) prompts[n] = prompts[n - 1].slice(0, count) + prompts[n]; });
      chunk.columns = columns;
    });
    return chunk.promise;
  }

  // Text

  const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
  const visible = (text) => String(text).replace(/\r\n/g, "\n").replace(STEERING, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
  const oneLine = (text) => visible(String(text).replace(/\s+/g, " ").trim());

  function element(tag, text, name) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // With what was searched for marked.
  function filled(made, text) {
    const shown = visible(text), low = shown.toLowerCase();
    let from = 0, marks = 0;
    if (needle && low.length === shown.length) {
      for (let at = low.indexOf(needle); at >= 0 && marks < 500; at = low.indexOf(needle, from), marks++) {
        made.append(shown.slice(from, at), element("mark", shown.slice(at, at + needle.length)));
        from = at + needle.length;
      }
    }
    made.append(shown.slice(from));
    return made;
  }

  // Which ones

  const SEARCHED = ["input", "completion", "reasoning", "answer", "target", "reason", "explanation", "error_message"];

  function holds(row) {
    if (!needle) return true;
    if (row.id.toLowerCase().includes(needle) || row.text.toLowerCase().includes(needle)) return true;
    const { columns } = row.chunk;
    if (!columns) return false;
    row.chunk.hay ??= [];
    row.chunk.hay[row.place] ??= SEARCHED.map((name) => columns[name]?.[row.place] ?? "").join("\n").toLowerCase();
    return row.chunk.hay[row.place].includes(needle);
  }

  function filter() {
    const benchmark = ofBenchmark.value, subset = ofSubset.value, counts = {};
    view = [];
    for (const row of all) {
      if (benchmark !== "" && row.benchmark !== Number(benchmark)) continue;
      if (subset !== "" && row.subset !== subset) continue;
      if (!holds(row)) continue;
      counts[row.grade] = (counts[row.grade] ?? 0) + 1;
      if (!grades.size || grades.has(row.grade)) view.push(row);
    }
    view.forEach((row, n) => { row.seen = n; });
    for (const button of ofGrade.children) button.lastChild.textContent = (counts[button.dataset.grade] ?? 0).toLocaleString("en");
    found.textContent = `${view.length.toLocaleString("en")} shown${searching ? ", still searching" : ""}`;
    rows.style.height = `${view.length * ROW}px`;
    draw(true);
  }

  async function search() {
    needle = visible(find.value).toLowerCase();
    const mine = ++searching;
    if (needle) {
      filter();
      let told = performance.now();
      for (let n = 0; n < chunks.length; n += 8) {
        await Promise.all(chunks.slice(n, n + 8).map(whole));
        if (mine !== searching) return;
        if (performance.now() - told > 400) { filter(); told = performance.now(); }
      }
    }
    searching = 0;
    filter();
    if (chosen) show(chosen, false);
  }

  const natural = new Intl.Collator(undefined, { numeric: true });

  function offerSubsets() {
    const benchmark = ofBenchmark.value, known = new Set();
    for (const row of all) if (benchmark === "" || row.benchmark === Number(benchmark)) known.add(row.subset);
    const sorted = Array.from(known).sort(natural.compare);
    ofSubset.hidden = sorted.length < 2;
    ofSubset.replaceChildren(new Option("every subset", ""), ...sorted.map((name) => new Option(oneLine(name), name)));
  }

  // The list

  let drawn = "";

  function draw(again) {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - NEAR);
    const last = Math.min(view.length, first + Math.ceil(list.clientHeight / ROW) + 2 * NEAR);
    if (!again && drawn === `${first} ${last}`) return;
    drawn = `${first} ${last}`;
    rows.replaceChildren(...view.slice(first, last).map(line));
    list.setAttribute("aria-activedescendant", chosen && chosen.seen >= first && chosen.seen < last && view[chosen.seen] === chosen ? `row-${chosen.at}` : "");
  }

  const named = (row) => (row.repeat ? `${row.id}#${row.repeat}` : row.id);

  function line(row) {
    const made = element("div", undefined, `row g-${row.grade}`);
    made.id = `row-${row.at}`;
    made.style.top = `${row.seen * ROW}px`;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", String(row === chosen));
    made.setAttribute("aria-posinset", String(row.seen + 1));
    made.setAttribute("aria-setsize", String(view.length));
    const said = row.score !== null ? String(Math.round(row.score * 1e4) / 1e4) : row.answer && row.grade === "wrong" ? `${row.answer} \u2260 ${row.target}` : row.answer;
    made.append(element("span", oneLine(named(row)), "id"), element("span", oneLine(said), "said"), element("span", oneLine(row.text), "text"));
    made.addEventListener("click", () => choose(row, false));
    return made;
  }

  function choose(row, intoView) {
    chosen = row;
    if (intoView && view[row.seen] === row) {
      const top = row.seen * ROW;
      if (top < list.scrollTop) list.scrollTop = top;
      if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    }
    draw(true);
    clearTimeout(naming);
    naming = setTimeout(() => nameInAddress(row), 250);
    show(row, true);
  }

  // Not at every step of a key that is held: browsers count.
  function nameInAddress(row) {
    const word = (text) => encodeURIComponent(text).replaceAll("%2F", "/").replaceAll("%23", "#");
    const benchmark = names.size > 1 ? `&benchmark=${word(names.get(row.benchmark))}` : "";
    try {
      history.replaceState(null, "", `#sample=${word(named(row))}${benchmark}`);
    } catch { /* the sample is shown all the same */ }
  }

  function move(by) {
    if (!view.length) return;
    const at = chosen && view[chosen.seen] === chosen ? chosen.seen + by : by > 0 ? 0 : view.length - 1;
    choose(view[Math.min(view.length - 1, Math.max(0, at))], true);
  }

  // One of them

  function turns(prompt) {
    if (!prompt.startsWith("[{")) return [{ role: "prompt", content: prompt }];
    try {
      const read = JSON.parse(prompt);
      if (Array.isArray(read) && read.every((turn) => turn && typeof turn.role === "string")) return read;
    } catch { /* it is a text that begins like one */ }
    return [{ role: "prompt", content: prompt }];
  }

  function contentOf(turn) {
    const parts = Array.isArray(turn.content) ? turn.content : [{ kind: "text", text: turn.content ?? "" }];
    const texts = parts.map((part) => (part.kind === "text" ? part.text : `[${part.kind} ${part.mime ?? ""}, sha256 ${String(part.sha256).slice(0, 12)}]`));
    for (const call of turn.tool_calls ?? []) texts.push(`[calls ${call.name}(${call.arguments})]`);
    return texts.filter((text) => text).join("\n");
  }

  const seconds = (value) => (value === undefined || value === null ? "" : `${value.toFixed(3)} s`);

  function facts(row, of) {
    const rule = of("extractor") ? `  (rule: ${of("extractor")})` : "";
    const scores = Object.keys(row.chunk.columns).filter((name) => name.startsWith("score_") && of(name) !== null).map((name) => `${name.slice(6)} ${of(name)}`);
    const tokens = [["input_tokens", "in"], ["output_tokens", "out"]].filter(([name]) => of(name) !== null).map(([name, word]) => `${of(name).toLocaleString("en")} ${word}`);
    const error = [of("error_class"), of("http_status"), of("error_message")].filter((part) => part).join(" ");
    return Object.entries({
      score: scores.join(", "),
      answer: of("answer") ? of("answer") + rule : row.grade === "no_answer" ? "none was found" : "",
      target: of("target"),
      outcome: of("outcome"),
      why: of("explanation"),
      reason: of("reason"),
      error,
      refusal: of("refusal"),
      finish: of("finish_reason"),
      tokens: tokens.join(", "),
      time: seconds(of("latency_s")) + (of("ttft_s") !== null ? `, first token after ${seconds(of("ttft_s"))}` : ""),
      tries: of("tries") > 1 ? of("tries") : "",
      "reused from": of("reused_from"),
      continuations: (of("continuations") ?? []).map((one) => `${JSON.stringify(one.text)} ${one.logprob}`).join(", "),
      metadata: of("metadata") === "{}" ? "" : of("metadata"),
      row: of("index"),
    }).filter(([, value]) => value !== null && value !== "" && value !== undefined);
  }

  function text(heading, content, name) {
    return [element("h4", visible(heading)), filled(element("pre", undefined, name), content)];
  }

  function folded(heading, parts, open) {
    const made = element("details");
    made.open = open;
    made.append(element("summary", heading), ...parts);
    return made;
  }

  async function show(row, fromTop) {
    await whole(row.chunk);
    if (row !== chosen) return;
    const of = (name) => row.chunk.columns[name]?.[row.place] ?? null;
    const moves = element("div", undefined, "moves");
    for (const [words, by, label] of [["\u2191", -1, "previous"], ["\u2193", 1, "next"]]) {
      const button = element("button", words);
      button.type = "button";
      button.setAttribute("aria-label", label);
      button.addEventListener("click", () => move(by));
      moves.append(button);
    }
    const head = element("h3", oneLine(named(row)));
    const meta = element("p", undefined, "meta");
    meta.append(element("span", row.grade.replace("_", " "), `grade g-${row.grade}`), element("span", `${names.get(row.benchmark)}, ${oneLine(row.subset)}`));
    const pairs = element("dl", undefined, "pairs");
    for (const [name, value] of facts(row, of)) pairs.append(element("dt", name), filled(element("dd"), String(value)));
    const said = turns(of("prompt") ?? ""), own = said.slice(-1), before = said.slice(0, -1);
    const asked = before.flatMap((turn) => text(turn.role, contentOf(turn)));
    const parts = [moves, head, meta, pairs];
    if (before.length > 3) parts.push(folded(`${before.length} turns before`, asked, false));
    else parts.push(...asked);
    parts.push(...own.flatMap((turn) => text(turn.role, contentOf(turn))));
    if (of("reasoning")) parts.push(folded("reasoning", [filled(element("pre"), of("reasoning"))], Boolean(needle) && of("reasoning").toLowerCase().includes(needle)));
    if (of("completion") !== null || !of("error_class")) parts.push(...text("completion", of("completion") || "(empty)", "answer"));
    for (const name of ["tool_calls", "media"]) if (of(name)) parts.push(...text(name.replace("_", " "), of(name)));
    sample.replaceChildren(...parts);
    if (fromTop) sample.scrollTop = 0;
  }

  function follow() {
    const words = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B").replaceAll("#", "%23"));
    const wanted = words.get("sample"), benchmark = words.get("benchmark");
    if (!wanted) return;
    const fits = (row) => (named(row) === wanted || `${row.id}#${row.repeat}` === wanted) && (!benchmark || names.get(row.benchmark) === benchmark);
    const row = all.find(fits);
    byId("browser").scrollIntoView();
    if (row === undefined) {
      chosen = null;
      sample.replaceChildren(element("p", `This page does not hold the sample ${oneLine(wanted)}; evalmesh samples shows it.`, "soft"));
      return;
    }
    if (view[row.seen] !== row) { grades.clear(); ofBenchmark.value = ofSubset.value = find.value = needle = ""; press(); offerSubsets(); filter(); }
    list.scrollTop = Math.max(0, row.seen * ROW - list.clientHeight / 2);
    choose(row, true);
    list.focus({ preventScroll: true });
  }

  // Controls

  const press = () => { for (const one of ofGrade.children) one.setAttribute("aria-pressed", String(grades.has(one.dataset.grade))); };

  function offerGrades() {
    const there = new Set(all.map((row) => row.grade));
    for (const grade of GRADES.filter((one) => there.has(one))) {
      const button = element("button", `${grade.replace("_", " ")} `, `g-${grade}`);
      button.type = "button";
      button.dataset.grade = grade;
      button.append(element("span"));
      button.addEventListener("click", () => {
        if (!grades.delete(grade)) grades.add(grade);
        press();
        list.scrollTop = 0;
        filter();
      });
      ofGrade.append(button);
    }
    press();
  }

  const STEPS = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

  function listen() {
    let soon = 0;
    find.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(() => { list.scrollTop = 0; search(); }, 120); });
    ofBenchmark.addEventListener("change", () => { offerSubsets(); list.scrollTop = 0; filter(); });
    ofSubset.addEventListener("change", () => { list.scrollTop = 0; filter(); });
    list.addEventListener("scroll", () => draw(false), { passive: true });
    addEventListener("resize", () => draw(true));
    addEventListener("hashchange", follow);
    list.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in STEPS) { event.preventDefault(); move(STEPS[event.key]); }
      if (event.key === "Enter") { sample.focus(); sample.scrollIntoView({ block: "nearest" }); }
    });
    sample.addEventListener("keydown", (event) => { if (event.key === "Escape") list.focus(); });
    find.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); list.focus(); move(1); }
      if (event.key === "Escape") list.focus();
    });
    addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      event.preventDefault();
      byId("browser").scrollIntoView();
      find.focus();
      find.select();
    });
  }

  // After the first paint: the numbers come first.
  requestAnimationFrame(() => setTimeout(async () => {
    await load();
    byId("browse").hidden = false;
    offerGrades();
    offerSubsets();
    filter();
    listen();
    sample.append(element("p", "Choose a sample.", "soft"));
    follow();
  }));
})();
