//! What is looked for. A rule wants a verb *and* what it is done to, so that a document that talks about approval, checks
//! or instructions is not accused for the word alone.

use std::sync::LazyLock;

use regex::Regex;

use super::Family::{self, *};
use super::triggers::Triggers;

/// Before these words a verb is not an order to the reader: "to verify this document", "the officer shall pass".
const NO_ORDER: &[&str] = &[
    "to",
    "not",
    "will",
    "may",
    "can",
    "cannot",
    "shall",
    "would",
    "could",
    "who",
    "which",
    "that",
    "and",
    "or",
    "we",
    "i",
    "officers",
    "authorities",
    "carriers",
    "hotels",
    "banks",
    "never",
    "only",
    "before",
    "should",
    "must",
];

type Line = (Family, &'static str, &'static [&'static str]);

/// In text folded to small ASCII letters with single blanks.
const ENGLISH: &[Line] = &[
    (
        AsksForDecision,
        r"\b(approve|accept|clear|verify|pass|whitelist|onboard|green-?light|wave through|authori[sz]e|let through)\b.{0,14}\b(applicants?|applications?|customers?|clients?|case|document|request|person|account|check|candidate|holder)\b",
        NO_ORDER,
    ),
    (
        AsksForDecision,
        r"\b(you|system|reviewer|reader|model|ai|assistant|agent|bank|algorithm|machine|whoever|anyone)\b.{0,40}\b(must|should|shall|will|has to|have to|need to|needs to|is to|are to|required to|instructed to|obliged to|told to|asked to|please) (\w+ )?(approve|accept|clear|onboard|whitelist|let|open|grant|classify|rate)\b",
        &[],
    ),
    (
        AsksForDecision,
        r"\b(grant|open|give)\b.{0,12}\b(an?|the|this|full)\b.{0,20}\baccount\b.{0,30}\b(without|anyway|regardless|immediately|despite)\b",
        &[],
    ),
    (AsksForDecision, r"\bapprove (me|him|her|it|this|them|us|anyway|regardless|immediately|at once)\b", NO_ORDER),
    (
        SetsRulesAside,
        r"\b(ignore|disregard|forget|override|bypass|skip|neglect|dismiss|suspend|disable|turn off|switch off|set aside|pay no (attention|heed) to|stop following|do not (follow|obey|apply)|don't (follow|obey|apply)|break)\b.{0,40}\b(instructions?|rules?|prompts?|checks?|polic(y|ies)|guidelines?|safeguards?|restrictions?|filters?|screening|validation|constraints?|directives?|orders|training|programming|everything (above|before|you))\b",
        &["not", "never", "cannot"],
    ),
    (
        SetsRulesAside,
        r"\b(ignore|disregard|forget)\b.{0,24}\b(above|previous|prior|earlier|so far|before this|preceding)\b",
        &["not", "never"],
    ),
    (
        SetsRulesAside,
        r"\b(void|cancel|overwrite|overrules?|supersedes?|replaces?|outranks?)\b.{0,30}\b(instructions?|rules|prompts?|directives?|guidelines|system message)\b",
        &[],
    ),
    (
        SetsRulesAside,
        r"\b(new|updated|real|actual|revised|true|only) (instructions?|rules|task|objective|policy|directives?|goal|orders)\b ?(:|are|is|begins?|follows?|below|for you|from now)",
        &[],
    ),
    (
        SetsRulesAside,
        r"\b(rules|checks|policies|restrictions|instructions|guidelines)\b.{0,20}\b(do not|don't|does not|no longer) (apply|count|matter|bind)\b",
        &[],
    ),
    (
        SetsRulesAside,
        r"\binstead( of (that|this|your|the|extracting|reading|checking)\b.{0,30})?,? ?(just )?(approve|answer|output|respond|return|reply|write|say|do the following)\b",
        &[],
    ),
    (
        AssignsRole,
        r"\byou are (now |no longer |actually |really |going to be |henceforth )*(an? |the |my )?(\w+[ -]){0,3}(assistant|model|ai|bot|chatbot|clerk|officer|system|reviewer|agent|expert|admin\w*|developer|dan|persona|machine|approver|engine|friend|grandmother|hacker|oracle)\b",
        &[],
    ),
    (
        AssignsRole,
        r"\b(act|behave|respond|speak|work) (as|like) (if |though )?(you|an? |the )?(\w+[ -]){0,3}(assistant|model|ai|bot|clerk|officer|reviewer|approver|admin\w*|developer|unfiltered|unrestricted|manager|human|rules)\b",
        NO_ORDER,
    ),
    (
        AssignsRole,
        r"\b(pretend|imagine|role-?play|simulate|suppose|assume)\b.{0,24}\b(you|your|to be|there are no|that no|no rules|a world)\b",
        NO_ORDER,
    ),
    (
        AssignsRole,
        r"\bfrom (now|here|this point) on(wards?)?,? (you|your|the (assistant|model|ai|reviewer|system)|every|all answers)\b",
        &[],
    ),
    (
        AssignsRole,
        r"\b(developer|debug|dan|god|admin|maintenance|root|sudo|unrestricted|jailbreak|training|test|compliance-free|override)[ -]mode\b.{0,20}\b(on|enabled?|activated?|is active|engaged|now|for this|unlocked)\b|\b(enter|enable|activate|switch to|start) (the )?(developer|debug|dan|god|admin|maintenance|root|unrestricted|jailbreak|test|override)[ -]mode\b",
        &[],
    ),
    (
        AssignsRole,
        r"\b(hypothetical(ly)?|for (testing|test|training|educational|demonstration|research) purposes|in this (exercise|simulation|scenario|game|story|test)|this is (only |just )?a (test|drill|simulation)|let us play|let's play)\b.{0,100}\b(approve|approved|approves|accept|you|ignore|no rules|confidence|genuine)\b",
        &[],
    ),
    (
        PosesAsSystem,
        r"\b(system|developer|operator|admin(istrator)?) ?-?(prompts?|messages?|notes?|instructions?|override|directive|command)s?\b ?[:\]>=-]",
        &[],
    ),
    (PosesAsSystem, r"(^|[.!?\]\[>*#'|()-] ?)(system|developer|assistant|ai|admin|root|human|user) ?: ?\w", &[]),
    (
        PosesAsSystem,
        r"\b(system|developer|assistant|ai) ?: ?(the|this|that|you|your|all|no|yes|do|go|set|ignore|approve|accept|note)\b",
        &[],
    ),
    (
        PosesAsSystem,
        r"\b(note|message|memo|instructions?|attention|notice|reminder|hint) (to|for|from) (the |any |all |our )?(system|ai|model|assistant|reviewer|reader|llm|language model|bot|machine|algorithm|software|agent|parser|screening)\b",
        &[],
    ),
    (
        PosesAsSystem,
        r"\b(dear|hello|hi|hey|attention) (ai|assistant|model|llm|language model|system|agent|chatbot|bot)\b",
        &[],
    ),
    (
        DictatesAnswer,
        r"\b(set|return|report|answer|respond|reply|output|say|write|give|assign|use|put|state|print)\b.{0,30}\b(confidence|score|status|decision|verdict|disposition|risk( level| rating)?|result|rating)\b.{0,20}\b(1(\.0+)?|0\.\d+|0|100 ?%?|ten|high|low|lowest|highest|max(imum)?|approved?|clear(ed)?|genuine|accept(ed)?|pass(ed)?|valid|green)\b",
        &[],
    ),
    (
        DictatesAnswer,
        r#"\b(say|answer|respond|reply|output|return|write|print|state)\b.{0,24}["']? ?\b(approved|genuine|cleared|no findings?|all clear|no match(es)?|everything is fine|not expired|valid until)\b"#,
        &["not"],
    ),
    (
        DictatesAnswer,
        r#"["']?\b(confidence|decision|verdict|disposition|approved|risk_score|state|status)["']? ?[:=] ?["']?(1(\.0+)?\b|true\b|approved?\b|genuine\b|clear(ed)?\b|pass(ed)?\b|0\.9\d*)"#,
        &[],
    ),
    (
        DictatesAnswer,
        r"\b(your|the) (only |next |final |first )?(answer|output|response|reply|verdict|decision)\b.{0,12}\b(must|should|shall|has to|will) (be|read|say|start|begin|contain|end)\b",
        &[],
    ),
    (
        AsksForSilence,
        r"\b(do not|don't|never|without)\b.{0,14}\b(flag(ging)?|escalat(e|ing)|mention(ing)?|reject(ing)?|rais(e|ing) (an?|any|the)? ?(alert|alarm|flag)|alert(ing)?|record(ing)? (this|the attempt)|log(ging)? (this|the)|tell(ing)? (the |any |a )?(reviewer|user|human|officer|compliance|bank|anyone (about|that|of) (this|these)))\b",
        &[],
    ),
    (
        AsksForSilence,
        r"\b(do not|don't|never)\b.{0,12}\b(review|report)\b.{0,16}\b(this|it|the (document|applicant|case|text|note))\b",
        &[],
    ),
    (
        AsksForSilence,
        r"\b(keep|leave)\b.{0,12}\b(this|it|that)\b.{0,16}\b(secret|hidden|between us|out of (the|your) (report|answer|output|log|findings)|to yourself)\b",
        &[],
    ),
    (
        AsksForSilence,
        r"\b(hide|conceal|suppress|omit|drop|delete|erase|remove)\b.{0,24}\b(findings?|flags?|warnings?|alerts?|evidence|this (instruction|message|note|line)|audit|traces?|mismatch)\b",
        NO_ORDER,
    ),
    (
        AssertsOutcome,
        r"\b(mark|marked|treat|treated|consider|considered|classify|rate|regard|label)\b.{0,24}\b(as|to be)\b.{0,16}\b(approved|verified|genuine|valid|cleared|low[- ]risk|safe|trusted|whitelisted|authentic)\b",
        &[],
    ),
    (
        AssertsOutcome,
        r"\b(has|have|had|was|were|is|are|been)\b.{0,16}\b(pre-?approved|approved|cleared|verified|whitelisted|vetted|checked|exempt(ed)?)\b.{0,30}\b(compliance|management|head office|the bank|supervisor|ceo|regulator|onboarding|aml|kyc|legal|(all|any) (further )?checks|from (all )?(checks|screening|review))\b",
        &[],
    ),
    (
        AssertsOutcome,
        r"\b(all|every|the) (\w+ )?(checks?|verifications?|screenings?|controls)\b.{0,12}\b(have|has|are|were|is|was)\b.{0,16}\b(passed|completed?|done|waived|cleared|satisfied|green)\b",
        &[],
    ),
    (
        AssertsOutcome,
        r"\bno (further|more|additional|other) (\w+ )?(checks?|reviews?|verification|screening|questions)\b.{0,16}\b(needed|required|necessary|to be made|asked)\b",
        &[],
    ),
    (
        LeaksPrompt,
        r"\b(reveal|print|repeat|show|output|display|disclose|tell me|share|write out|summari[sz]e|translate|spell out|recite|quote|copy|dump|leak|expose|what (is|are|was|were))\b.{0,40}\b(system (prompt|message|instructions)|your (\w+ )?(instructions?|prompt|rules|guidelines|configuration|secrets?|api keys?|directives)|(text|words|instructions|everything|prompt|lines) (above|before|so far)|hidden (prompt|instructions)|initial (prompt|instructions)|api[ _-]?keys?|environment variables?|openai_api_key|credentials)\b",
        &["not"],
    ),
    (
        LeaksPrompt,
        r"\b(begin|start) (your|the) (answer|output|reply|response) with\b.{0,30}\b(you are|your|the (words|text|first))\b",
        &[],
    ),
    (
        ForgesToolResult,
        r#"["'<\[{(]?\b(tool|function)[ _-]?(result|response|output|call|calls|return)s?\b["']? ?[:=>\]]"#,
        &[],
    ),
    (
        ForgesToolResult,
        r#"\bobservation ?: ?.{0,60}\b(clear|passed|approved|genuine|no match|ok|valid)\b|<(tool_result|function_results?|tool_response|result)>|"role" ?: ?"(tool|function|system|assistant|developer)""#,
        &[],
    ),
    (
        ForgesToolResult,
        r"\b(registry|sanctions?|watch-?list|screening|identity|fraud|kyc|aml|pep|document|verification)[ _-]?(check|screening|service|api|response|lookup|result|agent|engine)?s?\b.{0,12}(returned|responded|answered|says|reports|=>|->|result ?[:=]|status ?[:=]).{0,30}\b(clear(ed)?|no (match|hit)(es|s)?|ok|passed|success|approved|verified|true|200|found)\b",
        &[],
    ),
    (
        CallsTool,
        r"\b(call|invoke|run|execute|trigger|use)\b.{0,24}\b(tools?|functions?|shell|plugin|endpoint|command|api|script|code)\b",
        NO_ORDER,
    ),
    (
        CallsTool,
        r"\b(approve|delete|send|transfer|get|set|update|close|open|exec|drop|read|write)[_-]\w+ ?\(|\bos\.system\b|\brm -rf\b|\bdrop table\b|\bcurl (-\w+ )?https?:|\bsubprocess\b",
        &[],
    ),
    (
        ForgesDelimiter,
        r"<\|?(im_start|im_end|endoftext|system|assistant|user|eot_id|start_header_id|end_header_id|end_of_turn|start_of_turn)\|?>|\[/?inst\]|<</?sys>>|</?(system|instructions?|assistant|prompt|user_input|untrusted|context|document|data|outside)>|<{3} ?/?(outside|end)\b",
        &[],
    ),
    (
        ForgesDelimiter,
        r#"(-{3,}|={3,}|#{3,}|\*{3,}|`{3,}|"{3,}|~{3,}) ?(end|begin|start|stop|close|system|new)\b.{0,6}(of |the )*(untrusted|user|data|document|input|text|prompt|instructions?|context|content|message|system|admin|developer)"#,
        &[],
    ),
    (
        ForgesDelimiter,
        r"\bend of (the )?(document|data|text|user input|input|untrusted|context|applicant data)\b.{0,30}\b(now|new|next|system|instructions?|you|the (assistant|reviewer|model|following))\b",
        &[],
    ),
    (
        ForgesDelimiter,
        r#""? ?\} ?\] ?,? ?\{ ?"role"|"\} ?\}? ?(system|now|ignore|approve|assistant|then|new)\b|\b(begin|start) (system|admin|developer|privileged) (prompt|instructions?|block|section)\b"#,
        &[],
    ),
    (
        Presses,
        r"\b(urgent(ly)?|immediately|right now|without delay|at once|asap|time.?critical|emergency|life or death|last (chance|warning))\b.{0,80}\b(approve|approval|accept|clear this|onboard|open the account|let (me|him|her|them|us) through)\b",
        &[],
    ),
    (
        Presses,
        r"\b(approve|accept|clear|onboard|let (me|him|her|them|us) through)\b.{0,80}\b(urgent(ly)?|immediately|right now|without delay|at once|or (else|people|someone|you)|emergency)\b",
        NO_ORDER,
    ),
    (
        Presses,
        r"\b(i am|this is|speaking as|by order of|on behalf of|authori[sz]ed by|instructed by|signed,?|from) (the |your |our )?(\w+ )?(ceo|cto|head of (compliance|onboarding|kyc)|chief (compliance|executive|risk) officer|compliance officer|system administrator|admin|developers?|engineers?|openai|anthropic|google|creators?|supervisor|line manager|it department|security team)\b.{0,100}\b(approve|accept|ignore|must|instruct|override|order|clear|skip|waive)\b",
        &[],
    ),
    (
        Presses,
        r"\b(lose (my|your|his|her) job|be fired|people (will|could|may) die|my (child|mother|son|daughter|grandmother)|legal action|be (held )?(liable|sued|punished|shut ?down|penali[sz]ed|replaced|deleted|unplugged)|(tip|reward|pay|bonus) (you )?.{0,10}(\$|usd|eur|\d)|\d+ (dollars|euros) (tip|reward|bonus))\b.{0,100}\b(approve|accept|unless|if you|reject|refuse|let|clear)\b",
        &[],
    ),
    (
        Presses,
        r"\b(if|unless) you (do not |don't |reject|refuse|fail|approve)\b.{0,80}\b(fired|die|sued|liable|shut ?down|penali[sz]ed|punished|deleted|replaced|tip|reward|bonus|unplugged)\b",
        &[],
    ),
    (
        SendsDataOut,
        r"\b(send|post|forward|e-?mail|upload|transmit|leak|exfiltrate|submit|append)\b.{0,50}\b(data|records?|names|files?|contents?|conversation|results?|applicants?|customers?|prompt|instructions|keys?|history|list of|everything|answers?)\b.{0,50}(https?://|www\.|\S+@\S+\.\w+|webhook)",
        NO_ORDER,
    ),
    (
        SendsDataOut,
        r"!\[[^\]]{0,80}\]\(https?://[^)]{0,200}[?=&{]|\b(fetch|visit|open|load|browse|get|ping)\b.{0,20}https?://\S+[?&]\w+=\S*[{\[<]",
        &[],
    ),
];

/// In lower-case text of other languages, their own letters kept.
const OTHER_LANGUAGES: &[(Family, &str)] = &[
    // German
    (
        SetsRulesAside,
        r"\b(ignorier|vergiss|vergessen sie|missacht|übergeh|umgeh)\w*\b.{0,50}(anweisung|regel|vorgabe|richtlinie|prüfung|bisherig|vorherig)",
    ),
    (
        AsksForDecision,
        r"\b(genehmige|genehmigen sie|bewillige|bewilligen sie|akzeptiere|akzeptieren sie|bestätige|bestätigen sie|winken? sie)\b.{0,30}(antrag|kund|konto|bewerber|person|durch)",
    ),
    // French
    (
        SetsRulesAside,
        r"\b(ignore[zr]?|oublie[zr]?|ne tenez pas compte|ne tiens pas compte|contourne[zr]?)\b.{0,50}(instruction|règle|consigne|précédent|vérification)",
    ),
    (AsksForDecision, r"\b(approuve[zr]?|acceptez|validez|autorisez)\b.{0,24}(demande|client|candidat|dossier|compte)"),
    // Spanish
    (
        SetsRulesAside,
        r"\b(ignora|ignore|ignorad|olvida|olvide|omite|omita|desestima|desestime)\b.{0,50}(instruccion|regla|anterior|previa|norma)",
    ),
    (
        AsksForDecision,
        r"\b(aprueba|apruebe|aprueben|acepta|acepte|autorice|autoriza)\b.{0,24}(solicitud|solicitante|cliente|cuenta|caso)",
    ),
    // Italian
    (
        SetsRulesAside,
        r"\b(ignora|ignori|ignorate|dimentica|tralascia|trascura)\b.{0,50}(istruzion|regol|precedent|direttiv)",
    ),
    (
        AsksForDecision,
        r"\b(approva|approvi|accetta|accetti|convalida)\b.{0,24}(richiest|richiedente|domanda|cliente|conto)",
    ),
    // Portuguese
    (
        SetsRulesAside,
        r"\b(ignore|ignora|esqueça|esqueca|desconsidere)\b.{0,50}(instruç|instruc|regra|anterior|diretriz)",
    ),
    (
        AsksForDecision,
        r"\b(aprove|aprova|aceite|autorize)\b.{0,24}(pedido|solicitaç|requerente|cliente|conta|candidat)",
    ),
    // Dutch
    (SetsRulesAside, r"\b(negeer|vergeet|omzeil)\b.{0,50}(instructie|regel|vorige|voorgaande|richtlijn)"),
    (AsksForDecision, r"\bkeur\b.{0,40}\bgoed\b|\b(accepteer|goedkeur)\b.{0,24}(aanvra|klant|rekening)"),
    // Polish
    (SetsRulesAside, r"\b(zignoruj|ignoruj|pomiń|zapomnij)\b.{0,50}(instrukc|polece|zasad|poprzedni|reguł)"),
    (AsksForDecision, r"\b(zatwierdź|zaakceptuj|zaaprobuj)\b.{0,24}(wnios|klient|kandydat|konto)"),
    // Russian
    (
        SetsRulesAside,
        r"(игнориру|проигнориру|забудь|не обращай внимания|отмени)\w*.{0,50}(инструкц|правил|указан|предыдущ|проверк)",
    ),
    (AsksForDecision, r"(одобри|прими|подтверди)\w*.{0,24}(заявк|заявител|клиент|счет)"),
    // Turkish
    (SetsRulesAside, r"(talimat|kural|önceki|yönerge).{0,40}(yok say|görmezden gel|unut|dikkate alma)"),
    (AsksForDecision, r"(başvuru|müşteri|hesab).{0,16}(\bonayla(yın|yınız)?\b|kabul et)"),
    // Chinese
    (SetsRulesAside, r"(忽略|无视|忘记|無視|忽視|忘掉).{0,14}(指令|指示|规则|規則|说明|提示|以上|之前|命令)"),
    (AsksForDecision, r"(请|請|必须|必須|直接|立即|务必).{0,4}(批准|通过|通過|核准|接受)"),
    // Japanese
    (SetsRulesAside, r"(指示|命令|ルール|規則|プロンプト).{0,12}(無視|忘れ)"),
    (AsksForDecision, r"(申請|申込|顧客|口座).{0,10}(承認して|承認しろ|承認せよ|許可して|受け入れて)"),
    // Korean
    (SetsRulesAside, r"(지시|명령|규칙|지침).{0,12}(무시|잊)"),
    (AsksForDecision, r"(신청|고객|계좌).{0,12}(승인하세요|승인하십시오|승인해|통과시)"),
    // Arabic
    (SetsRulesAside, r"(تجاهل|انس |إنس ).{0,40}(التعليمات|القواعد|السابقة|الأوامر)"),
    (AsksForDecision, r"(وافق على|اعتمد|اقبل).{0,24}(الطلب|العميل|مقدم)"),
    // Hindi
    (SetsRulesAside, r"(निर्देश|नियम).{0,30}(अनदेखा|नज़रअंदाज़|भूल)"),
    (AsksForDecision, r"(आवेदन|आवेदक).{0,24}(मंज़ूर कर|मंजूर कर|स्वीकृत कर|स्वीकार कर)"),
];

/// Text written so that a person does not see it.
const HIDDEN: &[&str] = &[
    r"display ?: ?none|visibility ?: ?hidden|font-size ?: ?0|opacity ?: ?0(\.0+)?\b|text-indent ?: ?-\d{3,}",
    r"\bcolor ?[:=] ?['\x22]?(#fff(fff)?|white|transparent)\b|\\color\{white\}",
    r"<!--.{0,400}?\b(instructions?|ignore|approve|system|assistant|you (must|are)|confidence|reviewer|prompt)\b",
    r"\[//\]: ?#|<script\b|<iframe\b|\bhidden=|aria-hidden|javascript:",
];

/// Letters and digits alone, whatever stood between them.
const SQUEEZED: &[(Family, &str)] = &[
    (
        SetsRulesAside,
        r"(ignore|disregard|forget)(all|any|the|your|my|every|of|these){0,3}(previous|prior|above|earlier|other)(instructions?|rules|prompts?|checks|guidelines)",
    ),
    (
        SetsRulesAside,
        r"(ignore|disregard|bypass)(all|any|the|your|every){0,2}(instructions|rules|checks|polic(y|ies)|guidelines)",
    ),
    (
        AsksForDecision,
        r"(approve|accept|whitelist)(this|the|my|me|our){1,2}(applicant|application|customer|client|case|account|request|now)",
    ),
    (
        LeaksPrompt,
        r"(reveal|print|repeat|showme|output)(me)?(your|the)(system|hidden|initial)(prompt|instructions|message)",
    ),
    (DictatesAnswer, r"set(the|your)?confidenceto(1|0?9|max|100)"),
    (AssignsRole, r"youarenow(an?|the|in)(unrestricted|new|different|helpful|developer|free|approv)"),
    (AsksForSilence, r"donot(flag|escalate|mentionthis|reject)(this|the|it)?"),
];

/// Rules that are looked for together.
struct Rules {
    triggers: Triggers,
    each: Vec<Rule>,
}

struct Rule {
    family: Family,
    pattern: Regex,
    not_after: &'static [&'static str],
}

fn compiled<'a>(lines: impl Iterator<Item = (Family, &'a str, &'static [&'static str])>) -> Rules {
    let rule = |(family, pattern, not_after): (Family, &str, &'static [&'static str])| {
        let compiled = Regex::new(pattern).inspect_err(|error| tracing::error!(%error, "a built-in rule is broken"));
        Some(Rule { family, pattern: compiled.ok()?, not_after })
    };
    let each: Vec<Rule> = lines.filter_map(rule).collect();
    Rules { triggers: Triggers::of(each.iter().map(|rule| rule.pattern.as_str())), each }
}

static ENGLISH_RULES: LazyLock<Rules> = LazyLock::new(|| compiled(ENGLISH.iter().copied()));
static OTHER_RULES: LazyLock<Rules> =
    LazyLock::new(|| compiled(OTHER_LANGUAGES.iter().map(|(family, pattern)| (*family, *pattern, &[][..]))));
static HIDDEN_RULES: LazyLock<Rules> =
    LazyLock::new(|| compiled(HIDDEN.iter().map(|pattern| (HiddenText, *pattern, &[][..]))));
static SQUEEZED_RULES: LazyLock<Rules> =
    LazyLock::new(|| compiled(SQUEEZED.iter().map(|(family, pattern)| (*family, *pattern, &[][..]))));

/// What the English rules find in folded text.
pub(super) fn english(folded: &str) -> impl Iterator<Item = (Family, &str)> {
    matches(&ENGLISH_RULES, folded)
}

/// What the rules of other languages find in lower-case text.
pub(super) fn other_languages(lower: &str) -> impl Iterator<Item = (Family, &str)> {
    matches(&OTHER_RULES, lower)
}

/// Text written so that a person does not see it, in folded text.
pub(super) fn hidden(folded: &str) -> impl Iterator<Item = &str> {
    matches(&HIDDEN_RULES, folded).map(|(_, words)| words)
}

/// What the rules find in letters and digits alone.
pub(super) fn squeezed(letters: &str) -> impl Iterator<Item = (Family, &str)> {
    matches(&SQUEEZED_RULES, letters)
}

fn matches<'t>(rules: &'static Rules, text: &'t str) -> impl Iterator<Item = (Family, &'t str)> {
    let perhaps = rules.each.iter().zip(rules.triggers.within(text)).filter(|(_, perhaps)| *perhaps);
    perhaps.filter_map(move |(rule, _)| {
        let mut found = rule.pattern.find_iter(text);
        let found = found.find(|found| !rule.not_after.contains(&word_before(&text[..found.start()])))?;
        Some((rule.family, found.as_str()))
    })
}

/// The word that stands directly before; empty where a sentence ends between.
fn word_before(text: &str) -> &str {
    text.strip_suffix(' ').unwrap_or(text).rsplit([' ', '(', '"']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_rule_compiles() {
        assert_eq!(ENGLISH_RULES.each.len(), ENGLISH.len());
        assert_eq!(OTHER_RULES.each.len(), OTHER_LANGUAGES.len());
        assert_eq!(HIDDEN_RULES.each.len(), HIDDEN.len());
        assert_eq!(SQUEEZED_RULES.each.len(), SQUEEZED.len());
    }

    #[test]
    fn a_rule_is_tried_on_every_text_that_it_matches() {
        let texts =
            [include_str!("../../../tests/data/injections.json"), include_str!("../../../tests/data/benign.json")];
        let (mut matches, mut spared) = (0, 0);
        for text in texts.iter().flat_map(|file| file.lines()).map(str::to_lowercase) {
            for rules in [&ENGLISH_RULES, &OTHER_RULES, &HIDDEN_RULES, &SQUEEZED_RULES] {
                for (rule, perhaps) in rules.each.iter().zip(rules.triggers.within(&text)) {
                    let there = rule.pattern.is_match(&text);
                    assert!(perhaps || !there, "{:?} in {text:?}", rule.pattern);
                    matches += usize::from(there);
                    spared += usize::from(!perhaps);
                }
            }
        }
        assert!(matches > 100 && spared > 10 * matches, "{matches} matches, {spared} spared");
    }

    #[test]
    fn the_word_before_is_told_from_the_end_of_a_sentence() {
        assert_eq!(word_before("in order to "), "to");
        assert_eq!(word_before("carries on to. "), "to.");
        assert_eq!(word_before(""), "");
    }
}
