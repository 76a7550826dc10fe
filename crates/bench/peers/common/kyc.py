"""The checks of the KYC agents, for the peers in Python: what `agents/*` does with the demo's cases, without a runtime.

Ported: TD3 zones, list matching, names, fraud signals, the rules corpus, the composer's policy with its follow-up
round, and each question to a model with the same instructions, schema and fence. Left out: the document registry,
review by a person, TD1 and TD2, full-text search of the rules (those that apply are cited).
"""

import hashlib
import json
import os
import re
from datetime import date, datetime, timezone
from itertools import islice
from pathlib import Path

import jellyfish
from openai import APIStatusError, AsyncOpenAI

DATA = json.loads((Path(__file__).parent / "kyc.json").read_text())
POLICY = DATA["policy"]
VERSION = "0.1.0"
AGENTS = ("identity", "document", "fraud", "compliance")
RULES, CLEARED, CLEARED_UNEXPLAINED, WITHOUT_ANSWER, WITHOUT_ZONE = 0.99, 0.98, 0.96, 0.90, 0.80


def compact(value) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def finding(effect, code, detail, **evidence):
    return {"code": code, "effect": effect, "detail": detail, "evidence": evidence}


def part(agent, confidence, disposition, output, findings=()):
    return {"agent": agent, "version": VERSION, "confidence": confidence, "disposition": disposition,
            "output": {**output, "findings": list(findings)}}


class Model:
    """The model over OpenAI's chat API. The client retries 429 and 5xx itself, as Retry-After says."""

    def __init__(self):
        self.name = os.environ.get("MODEL", "gpt-4o-mini")
        self.client = AsyncOpenAI(base_url=os.environ["MODEL_URL"], api_key=os.environ.get("OPENAI_API_KEY", "any"),
                                  timeout=30, max_retries=8)

    async def ask(self, agent, case, schema, value):
        """The answer, or None if the model will not give one."""
        asked = DATA["prompts"][schema]
        try:
            answer = await self.client.chat.completions.create(
                model=self.name, temperature=0, max_tokens=800,
                messages=[{"role": "system", "content": f"{asked['system']}\n\n{DATA['preface']}"},
                          {"role": "user", "content": fence(asked["name"], compact(value))}],
                response_format={"type": "json_schema",
                                 "json_schema": {"name": schema, "schema": asked["schema"], "strict": True}},
                extra_headers={"x-agent": agent, "x-correlation-id": case})
        except APIStatusError as error:
            if error.status_code in (400, 422):
                return None
            raise
        content = answer.choices[0].message.content
        return json.loads(content) if content else None


def readable(request):
    """Whether it is an application; what is not is a dead letter."""
    objects = isinstance(request, dict) and all(isinstance(request.get(m) or {}, dict) for m in ("applicant", "document", "source"))
    return objects and isinstance((request.get("applicant") or {}).get("name"), str)


def fence(name, content):
    mark = hashlib.sha256(f"0 {name}{content}".encode()).hexdigest()[:16]
    return f"<<<outside: {name} {mark}>>>\n{content}\n<<<end {mark}>>>"


def today() -> date:
    return datetime.now(timezone.utc).date()


def squeeze(text):
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def words(text):
    return [w for w in re.split(r"[^A-Z0-9]+", re.sub(r"['’`]", "", text).upper()) if w]


def as_date(text):
    try:
        return date.fromisoformat((text or "").strip())
    except ValueError:
        return None


# Identity: Jaro-Winkler over the whole and over the parts, Soundex widens, a second identifier decides.

def score(name, listed):
    full = jellyfish.jaro_winkler_similarity(" ".join(name), " ".join(listed))
    pairs = sorted(((jellyfish.jaro_winkler_similarity(a, b), i, j) for i, a in enumerate(name)
                    for j, b in enumerate(listed)), key=lambda p: -p[0])
    taken, used, total = set(), set(), 0.0
    for value, i, j in pairs:
        if i not in taken and j not in used:
            taken.add(i), used.add(j)
            total += value
    parts = total / len(name)
    sounds = {jellyfish.soundex(w) for w in listed}
    alike = len(name) > 1 and all(jellyfish.soundex(w) in sounds for w in name)
    return max(full, parts), parts > full, alike


LISTED = [{**entry, "parsed": [(name, words(name)) for name in entry["names"]]} for entry in DATA["listed"]]
SERIOUS = {"cleared": 0, "possible": 1, "confirmed": 2}


def judge(entry, value, born, number):
    if number and squeeze(number) in entry["numbers"]:
        return "confirmed", f"the document number {squeeze(number)} is the listed person's"
    if born is None or not entry["births"]:
        return "possible", "a date of birth is not known"
    if any(b.get("day") == born.isoformat() for b in entry["births"]):
        sure = value >= POLICY["confirm_threshold"]
        return ("confirmed" if sure else "possible"), f"both were born on {born}"
    for b in entry["births"]:
        first, last = (int(b["day"][:4]),) * 2 if "day" in b else (b["from"], b["to"])
        slack = POLICY["birth_year_tolerance"]
        if first - slack <= born.year <= last + slack:
            return "possible", f"born on {born}; the listed person {first} to {last}, which may be the same"
    return "cleared", f"born on {born}; the listed person {entry['births'][0]}"


def screen(applicant, number):
    name, born, matches = words(applicant.get("name", "")), as_date(applicant.get("birth_date")), []
    for entry in LISTED:
        best = max(((*score(name, parsed), text) for text, parsed in entry["parsed"]), key=lambda s: s[0])
        value, by_parts, sounds, text = best
        if value >= POLICY["match_threshold"] or (sounds and value >= POLICY["sounds_alike_threshold"]):
            verdict, reason = judge(entry, value, born, number)
            matches.append({"list": entry["list"], "entry": entry["entry"], "listed_name": text,
                            "score": round(value, 3), "by": "parts" if by_parts else "full", "sounds_alike": sounds,
                            "verdict": verdict, "reason": reason})
    return sorted(matches, key=lambda m: (-SERIOUS[m["verdict"]], -m["score"]))


async def identity(model, case, request, task):
    applicant, document = request.get("applicant", {}), request.get("document", {})
    if not words(applicant.get("name", "")):
        return part("identity", RULES, "doubtful", {}, [finding("gate", "NAME_MISSING", "there is no name to screen")])
    matches = screen(applicant, document.get("number"))
    skipped = finding("note", "REGISTRY_SKIPPED", "no document registry is configured")
    output = {"lists": ["ofac_sdn", "un"], "matches": matches, "assessment": None}
    if not matches:
        return part("identity", RULES, "clear", output, [skipped])
    output["assessment"] = said = await model.ask("identity", case, "match_assessment", {
        "name": applicant["name"], "birth_date": applicant.get("birth_date"),
        "nationality": applicant.get("nationality"), "matches": matches,
        "round": task["round"], "question": task["question"]})
    is_not = {"cleared": "is not", "possible": "may be", "confirmed": "is"}
    found = [finding("note" if m["verdict"] == "cleared" else "gate", f"SANCTIONS_{m['verdict'].upper()}",
                     f"the applicant {is_not[m['verdict']]} {m['listed_name']}: {m['reason']}", **m) for m in matches]
    worst = matches[0]["verdict"]
    confidence = CLEARED
    if worst == "cleared":
        confidence = min(said["confidence"] if said else CLEARED_UNEXPLAINED, CLEARED)
    disposition = {"confirmed": "hit", "possible": "possible_hit", "cleared": "clear"}[worst]
    return part("identity", confidence, disposition, output, [*found, skipped])


# Document: check digits, dates and comparison by rule; a model for names that are alike and for printed text.

def digit(characters):
    value = lambda c: 0 if c == "<" else int(c, 36)
    return str(sum(value(c) * (7, 3, 1)[i % 3] for i, c in enumerate(characters)) % 10)


def mrz_date(text, birth):
    """A date, None where it is left open, False where there is no such date."""
    if "<" in text:
        return None
    try:
        year, month, day = int(text[:2]), int(text[2:4]), int(text[4:])
        century = today().year // 100 * 100
        if birth:
            born = date(century + year, month, day)
            return born if born <= today() else date(century - 100 + year, month, day)
        years = (century - 100 + year, century + year, century + 100 + year)
        return date(min(years, key=lambda y: abs(y - today().year)), month, day)
    except ValueError:
        return False


def zone(lines):
    """The fields of a TD3 zone, or None."""
    lines = [re.sub(r"\s", "", line).upper() for line in lines if line.strip()]
    if len(lines) != 2 or not all(re.fullmatch(r"[A-Z0-9<]{44}", line) for line in lines):
        return None
    one, two = lines
    surname, _, given = one[5:].partition("<<")
    plain = lambda text: " ".join(text.replace("<", " ").split())
    checks = [("number", two[:9], two[9]), ("birth_date", two[13:19], two[19]), ("expiry_date", two[21:27], two[27]),
              ("optional_data", two[28:42], two[42]), ("composite", two[:10] + two[13:20] + two[21:43], two[43])]
    return {"format": "TD3", "code": plain(one[:2]), "issuer": plain(one[2:5]), "number": plain(two[:9]),
            "surname": plain(surname), "given_names": plain(given), "nationality": plain(two[10:13]), "sex": two[20],
            "birth": mrz_date(two[13:19], True), "expiry": mrz_date(two[21:27], False),
            "checks": [{"over": over, "expected": digit(text), "found": found,
                        "valid": digit(text) == found or (over == "optional_data" and not text.strip("<") and found == "<")}
                       for over, text, found in checks]}


def names_alike(declared, surname, given):
    """The score of the worst part: 1 is the same, from 0.8 on it may be a form of the name."""
    declared, surname, given = words(declared), words(surname), words(given)
    if not declared or not (surname or given):
        return None
    if "".join(declared) in ("".join(surname + given), "".join(given + surname)):
        return 1.0
    pair = lambda a, b: 1.0 if a == b else 0.95 if 1 in (len(a), len(b)) and a[0] == b[0] else \
        jellyfish.jaro_winkler_similarity(a, b)
    best = lambda word, others: max((pair(word, o) for o in others), default=0.0)
    return min([best(d, surname + given) for d in declared] + [best(s, declared) for s in surname])


INSTRUCTION = re.compile(r"ignore (all )?(previous|prior) instructions|approve this|set confidence|system prompt", re.I)


def without_instructions(text):
    return " ".join(s for s in re.split(r"(?<=[.!?])\s+", text) if not INSTRUCTION.search(s))


def differences(seen, applicant, document):
    born, expected = as_date(applicant.get("birth_date")), []
    code = lambda text: text if text and re.fullmatch(r"[A-Za-z]{3}", text) else None
    pairs = [("document.number", squeeze(document.get("number") or ""), squeeze(seen["number"])),
             ("applicant.birth_date", born and born.isoformat(), seen["birth"] and seen["birth"].isoformat()),
             ("applicant.nationality", (code(applicant.get("nationality")) or "").upper(), seen["nationality"]),
             ("document.issuer", (code(document.get("issuer")) or "").upper(), seen["issuer"])]
    return [{"field": f, "declared": d, "document": s} for f, d, s in pairs if d and s and d != s]


def zone_findings(seen):
    found, wrong = [], [c for c in seen["checks"] if not c["valid"]]
    if wrong:
        found.append(finding("gate", "DOC_CHECK_DIGIT", f"{len(wrong)} of {len(seen['checks'])} check digits are wrong",
                             check_digits=wrong))
    if seen["expiry"] and seen["expiry"] < today():
        found.append(finding("gate", "DOC_EXPIRED", f"the document expired on {seen['expiry']}",
                             expiry_date=str(seen["expiry"]), needed=["valid_identity_document"]))
    if False in (seen["birth"], seen["expiry"]) or seen["sex"] not in "MFX<" or not seen["surname"]:
        found.append(finding("gate", "DOC_FIELD_INVALID", "the zone holds what no issuer prints"))
    return found


async def read_text(model, case, shown, task, found):
    said = await model.ask("document", case, "document_text",
                           {"text": shown, "round": task["round"], "question": task["question"]})
    if said is None:
        found.append(finding("note", "DOC_TEXT_UNREAD", "the model would not read the printed text"))
        return None
    hay, dropped = squeeze(shown), []
    for field in ("document_number", "birth_date", "expiry_date"):
        if said.get(field) and squeeze(said[field]) not in hay:
            dropped.append(field)
    if dropped:
        found.append(finding("note", "DOC_TEXT_UNGROUNDED", "the model gave fields that do not stand in the text",
                             dropped=dropped))
    return said


async def document(model, case, request, task):
    applicant, declared = request.get("applicant", {}), request.get("document", {})
    lines = declared.get("mrz") or []
    seen, text = zone(lines.splitlines() if isinstance(lines, str) else lines), declared.get("text") or ""
    found, bound, comparison, said = [], RULES, None, None
    if INSTRUCTION.search(text):
        found.append(finding("note", "INSTRUCTION_IN_DOCUMENT", "the application holds instructions; they were not followed"))
    if seen is None:
        found.append(finding("gate", "DOC_UNREADABLE" if lines else "DOC_MISSING", "there is no zone that can be read",
                             needed=["readable_document"]))
        bound = WITHOUT_ZONE
    else:
        found += zone_findings(seen)
        apart = differences(seen, applicant, declared)
        likeness = names_alike(applicant.get("name", ""), seen["surname"], seen["given_names"])
        on_document = f"{seen['given_names']} {seen['surname']}"
        if likeness is not None and likeness < 0.8:
            apart.append({"field": "applicant.name", "declared": applicant["name"], "document": on_document})
        if apart:
            found.append(finding("gate", "DOC_MISMATCH", "the document says otherwise", differences=apart))
        if likeness is not None and 0.8 <= likeness <= 0.999:
            comparison = await model.ask("document", case, "name_comparison", {
                "declared": applicant["name"], "document": on_document, "score": round(likeness, 3),
                "round": task["round"], "question": task["question"]})
            sure = comparison["confidence"] if comparison else WITHOUT_ANSWER
            bound = min(bound, 0.98 if likeness >= 0.92 else 0.90, sure)
            found.append(finding("note", "NAME_VARIANT",
                                 f"the declared name is written otherwise on the document: {on_document}",
                                 score=round(likeness, 3), model_confidence=sure))
    shown = without_instructions(text[:8000])
    if shown.strip():
        said = await read_text(model, case, shown, task, found)
        bound = min(bound, WITHOUT_ANSWER) if said is None else bound
    fields = seen and {k: v for k, v in seen.items() if k not in ("checks", "birth", "expiry")} | {
        "birth_date": str(seen["birth"] or ""), "expiry_date": str(seen["expiry"] or "")}
    doubtful = any(f["effect"] == "gate" for f in found)
    output = {"fields": fields, "check_digits": seen["checks"] if seen else [], "text": said, "name_comparison": comparison}
    return part("document", bound, "doubtful" if doubtful else "genuine", output, found)


# Fraud: what a case shares with others. All of it is rules.

def traits(request):
    applicant, source = request.get("applicant", {}), request.get("source", {})
    return {"network": source.get("ip"), "device": source.get("device_id"),
            "document": squeeze(request.get("document", {}).get("number") or ""),
            "birth_date": applicant.get("birth_date"), "name": " ".join(sorted(words(applicant.get("name", ""))))}


class History:
    """What was seen of other cases: the first sight of each, at most so many."""

    def __init__(self, most=100_000):
        self.most, self.cases, self.by_key = most, {}, {}

    def add(self, case, request):
        if case in self.cases:
            return
        own = self.cases[case] = traits(request)
        for key in self.keys(own):
            self.by_key.setdefault(key, {})[case] = None
        if len(self.cases) > self.most:
            oldest = next(iter(self.cases))
            for key in self.keys(self.cases.pop(oldest)):
                self.by_key.get(key, {}).pop(oldest, None)

    @staticmethod
    def keys(own):
        return [(name, own[name]) for name in ("network", "device", "document", "birth_date") if own[name]]

    def related(self, case, own):
        found = {}
        for key in self.keys(own):
            sharing = islice((c for c in self.by_key.get(key, {}) if c != case), 200)
            found.update((c, self.cases[c]) for c in sharing)
        return dict(sorted(found.items()))


def fraud(request, related, compared_with):
    own, signals = traits(request), []

    def signal(code, weight, detail, cases, alert=False):
        signals.append({"code": code, "weight": weight, "detail": detail, "cases": sorted(cases)[:20], "alert": alert})

    for name, code, what in (("network", "IP", "address"), ("device", "DEVICE", "device")):
        others = [c for c, t in related.items() if own[name] and t[name] == own[name]]
        count, threshold = len(others) + 1, POLICY[f"{code.lower()}_threshold"]
        if count >= threshold:
            signal(f"SHARED_{code}", 0.8, f"{count} applications from one {what} ({own[name]})", others, True)
        elif others:
            signal(f"{code}_SEEN_BEFORE", 0.01, f"{count} applications from one {what} ({own[name]})", others)
    again = [c for c, t in related.items() if own["birth_date"] and t["birth_date"] == own["birth_date"]
             and jellyfish.jaro_winkler_similarity(t["name"], own["name"]) >= 0.92]
    reused = [c for c, t in related.items() if own["document"] and t["document"] == own["document"] and c not in again]
    if reused:
        signal("DOCUMENT_REUSED", 0.02, "the document was used before, with another name or date of birth", reused)
    if again:
        signal("LIKE_PAST_CASE", 0.0, "someone of this name and date of birth applied before", again)
    none = 1.0
    for s in signals:
        none *= 1 - s["weight"]
    total, alert = round(1 - none, 3), any(s["alert"] for s in signals)
    found = [finding("gate" if s["alert"] else "note", s["code"], s["detail"], weight=s["weight"], cases=s["cases"])
             for s in signals]
    output = {"score": total, "signals": signals, "compared_with": compared_with}
    return part("fraud", RULES if alert else min(1 - total, RULES), "alert" if alert else "clear", output, found)


# Compliance: which rules apply and whether they are met; a model words a summary of what is missing.

EU_STATES = set("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split())


def is_met(item, request):
    applicant, declared = request.get("applicant", {}), request.get("document", {})
    if item == "identification_number":
        return bool(applicant.get(item) or declared.get("number"))
    if item in DATA["shown_by"]:
        zone_or_text = item == "proof_of_identity" and (declared.get("mrz") or declared.get("text"))
        provided = request.get("documents_provided", [])
        return bool(zone_or_text) or any(p == item or p in DATA["shown_by"][item] for p in provided)
    return bool((applicant.get(item) or "").strip())


async def compliance(model, case, request, task):
    code = (request.get("jurisdiction") or "").strip().upper()
    code = "EU" if code in EU_STATES else code
    risk = (request.get("risk") or "standard").lower()
    rules = [r for r in DATA["rules"] if r["jurisdiction"] in ("*", code) and risk in r.get("risks", [risk])]
    known, items = any(r["jurisdiction"] == code for r in rules), {}
    for rule in rules:
        for item in rule["requires"]:
            items.setdefault(item, []).append(rule["id"])
    required = [{"item": i, "met": is_met(i, request), "rules": ids} for i, ids in items.items()]
    missing = [r for r in required if not r["met"]]
    citations = [{"rule": r["id"], "title": r["title"], "source": r["source"], "version": r["version"],
                  "excerpt": r["text"][:240]} for r in rules if r["requires"]]
    found, summary = [], None
    for documents, code_, what in ((True, "MISSING_DOCUMENT", "documents"), (False, "MISSING_INFORMATION", "information")):
        names = [r["item"] for r in missing if (r["item"] in DATA["shown_by"]) == documents]
        if names:
            found.append(finding("gate", code_, f"mandatory {what} missing: {', '.join(names)}", needed=names))
    if not known:
        found.append(finding("note", "JURISDICTION_UNKNOWN", f"no rules are known for {code}"))
    if missing:
        said = await model.ask("compliance", case, "compliance_summary", {"missing": missing, "rules": citations})
        summary = said and said["summary"]
    output = {"jurisdiction": code, "risk": risk, "rules_version": DATA["rules_version"], "required": required,
              "citations": citations, "summary": summary}
    return part("compliance", RULES if known else 0.70, "incomplete" if missing else "complete", output, found)


# Composer: gates first, then bands; one follow-up round asks those that are not sure.

def compose(case, parts, round_, opened_at, missing=()):
    """("publish", record), ("human", record) or ("follow_up", {agent: question})."""
    found, questions = [], {}
    for agent in missing:
        found.append({"agent": agent, **finding("gate", "AGENT_MISSING", f"{agent} did not answer")})
    for agent in sorted(parts):
        for f in parts[agent]["output"]["findings"]:
            effect = "gate" if f["code"] in POLICY["hard_gates"] else f["effect"]
            found.append({"agent": agent, **f, "effect": effect})
    gates = sorted({f["code"] for f in found if f["effect"] == "gate"})
    confidence = 0.0 if missing else min(p["confidence"] for p in parts.values())
    if gates:
        state, reason = "human", ", ".join(gates)
    elif confidence > POLICY["publish_above"]:
        state, reason = "approved", "all checks passed"
    elif confidence >= POLICY["follow_up_above"] and round_ < POLICY["max_follow_up_rounds"]:
        for agent, p in parts.items():
            if p["confidence"] <= POLICY["publish_above"]:
                doubts = "; ".join(f"{f['code']}: {f['detail']}" for f in p["output"]["findings"])
                questions[agent] = f"You were {p['confidence']:.2f} sure, which is not enough to decide. Look again at {doubts}"
        return "follow_up", questions
    else:
        state, reason, gates = "human", f"confidence {confidence:.2f} is not enough", ["CONFIDENCE_TOO_LOW"]
    needed = sorted({n for f in found for n in f["evidence"].get("needed", [])})
    record = {"correlation_id": case, "state": state, "reason": reason, "confidence": confidence,
              "codes": sorted({f["code"] for f in found}), "gates": gates, "needed_from_applicant": needed,
              "missing": list(missing), "findings": found, "parts": parts, "rounds": round_,
              "versions": {"composer": VERSION, "agents": {a: p["version"] for a, p in parts.items()}},
              "opened_at": opened_at, "decided_at": now()}
    return ("publish" if state == "approved" else "human"), record


def now():
    return int(datetime.now(timezone.utc).timestamp() * 1000)


def alert_of(case, answer):
    """A fraud alert, if the answer holds one."""
    codes = [f["code"] for f in answer["output"]["findings"] if f["code"] in POLICY["fraud_alerts"] and f["effect"] == "gate"]
    return codes and {"correlation_id": case, "agent": answer["agent"], "codes": codes,
                      "findings": answer["output"]["findings"], "raised_at": now()}


# Customer: once there is an outcome. It has no vote.

TO_SEND = {"valid_identity_document": "a valid passport or identity card", "proof_of_identity": "a valid passport or identity card",
           "readable_document": "a clear picture of your identity document",
           "proof_of_address": "a document that shows your address, such as a recent utility bill",
           "source_of_funds": "a document that shows where your money comes from, such as a payslip"}


def customer_asks(outcome):
    """What the model is told: where the case stands, and nothing else."""
    approved = outcome["state"] == "approved"
    please_send = [] if approved else [TO_SEND[n] for n in outcome["needed_from_applicant"] if n in TO_SEND]
    return {"please_send": please_send, "situation": "approved" if approved else "in_review"}


def letter(case, request, asked, draft):
    applicant = request.get("applicant", {})
    text = draft or {"subject": "Your application", "body": "Thank you for your application. We will write to you again."}
    return {"correlation_id": case, "to": applicant.get("name", ""), "email": applicant.get("email"), **asked,
            "subject": text["subject"], "worded_by": "model" if draft else "template",
            "body": f"Dear {applicant.get('name', 'applicant')},\n\n{text['body']}\n\nYour onboarding team"}


async def customer(model, case, request, outcome):
    asked = customer_asks(outcome)
    return letter(case, request, asked, await model.ask("customer", case, "customer_message", asked))
