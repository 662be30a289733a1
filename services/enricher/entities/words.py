"""The words that decide what a name is not, and what the words around it say.

Everything is looked up in lower case. The lists of names themselves are in `entity_lists`.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.enricher.entities import lists


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Technologies that are given names too; a surname after them decides.
NAMELIKE = _words("claude ruby julia django")

PARTICLES = _words(
    """
    van von der den de del della di da dos du la le el al bin ibn ben ter ten zu zum zur af av ní
    """
)

HONORIFICS = _words(
    """
    mr mrs ms miss mx dr prof professor doctor sir madam dame herr frau fräulein dipl-ing monsieur
    madame mademoiselle mme mlle señor señora signor signora captain judge senator
    """
)

# Headings and roles that stand before a colon as a speaker would.
NO_SPEAKER = _words(
    """
    user assistant system human ai bot agent model tool note notes todo fixme warning error info
    debug fatal caution tip hint important summary plan goal goals status question answer q a
    example step decision context title subject from to cc date time incident review update
    updates result results reason cause fix action actions item items topic agenda problem
    solution workaround background task tasks idea ideas reminder quote likes dislikes pros cons
    preference preferences project name location address phone email links link reference source
    first second third finally next today tomorrow yesterday follow-up followup conclusion lesson
    lessons insight observation description details
    """
)

STOPWORDS = _words(
    """
    i me my we our ours you your yours he him his she her hers it its they them their theirs what
    which who whom whose this that these those am is are was were be been being have has had
    having do does did doing a an the and but if or because as until while of at by for with about
    against between into through during before after above below to from up down in out on off
    over under again further then once here there when where why how all any both each few more
    most other some such no nor not only own same so than too very can will just should now would
    could may might must shall also yes ok okay please thanks thank hello hi hey dear best regards
    cheers bye sure well great good nice cool wow lol oh ah hmm let see maybe perhaps however
    therefore meanwhile nobody somebody everybody anyone someone everyone nothing something
    everything monday tuesday wednesday thursday friday saturday sunday mondays tuesdays
    wednesdays thursdays fridays saturdays sundays january february march april june july august
    september october november december jan feb mar apr jun jul aug sep sept oct nov dec today
    tomorrow yesterday tonight morning afternoon evening night noon midnight week weekend month
    year quarter mon tue tues wed thu thur thurs fri sat sun glad wanna gonna gotta lemme gimme
    kinda sorta dunno nah nope yeah yep yup yay congrats congratulations awesome amazing perfect
    absolutely totally definitely exactly honestly actually anyway though still lately recently
    haha hahaha omg whoa aw aww cozy sweet lovely sorry pardon m re ve ll d t s
    """
)

# Not stopwords where all letters are capitals: MIT, DES, EST.
FOREIGN_STOPWORDS = _words(
    """
    der die das den dem des ein eine einen einem und oder aber nicht ist sind war wir ihr sie ich
    mit von für auf aus bei nach wie wo wann warum heute gestern morgen bitte danke ja nein le la
    les un une et ou est sont pas nous vous ils elles je avec pour dans sur hier merci oui non on
    ce cette
    """
)

ERRORS = _words(
    """
    error errors failed failure failing fail exception exceptions traceback warning warnings fatal
    panic crash crashed timeout timeouts timed-out abort aborted denied refused rejected
    unavailable unauthorized forbidden invalid missing unknown undefined null nil none nan
    not-found bad-request bad-gateway gateway-timeout service-unavailable internal-server-error
    too-many-requests unprocessable-entity method-not-allowed permission-denied access-denied
    connection-refused connection-reset connection-timeout broken-pipe out-of-memory
    segmentation-fault core-dumped stack-overflow no-such-file-or-directory not-implemented
    not-acceptable payment-required request-timeout conflict gone precondition-failed
    payload-too-large oomkilled crashloopbackoff imagepullbackoff eof sigkill sigterm sigsegv
    sigint
    """
)

ACTIONS = _words(
    """
    done pending completed complete finished started starting running stopped paused blocked
    unblocked fixed fixing resolved open opened closed closing merged merging deployed deploying
    released added adding removed removing updated updating created creating deleted deleting
    changed changing tested testing verified verifying reviewed reviewing approved declined
    cancelled canceled scheduled postponed skipped success successful succeeded enabled disabled
    active inactive ready draft wip progress ongoing archived deprecated implemented implementing
    refactored refactoring migrated migrating configured installed improved improving switched
    moved renamed reverted planned decided learned discovered realized prefers preferred likes
    dislikes hates wants
    """
)

VERBS = _words(
    """
    use uses used using add adds adding added fix fixes fixing fixed run runs running ran get gets
    getting got set sets setting make makes making made create creates creating created update
    updates updating updated implement implements implementing implemented build builds building
    built check checks checking checked compare compares comparing compared call calls calling
    called ask asks asking asked tell told write writes writing wrote read reads reading send
    sends sending sent try tries trying tried need needs needed want wants wanted keep keeps
    keeping kept remove removes removing removed delete deletes deleting deleted move moves moving
    moved merge merges merging merged deploy deploys deploying deployed test tests testing tested
    install installs installing installed configure configures configuring configured prefer
    prefers preferred avoid avoids avoiding consider considers considering ensure ensures ensuring
    verify verifies verifying discuss discusses discussing discussed decide decides decided learn
    learns learned review reviews reviewing reviewed migrate migrates migrating migrated switch
    switches switching switched pin pins pinned meet meets met talk talks talked talking speak
    spoke remind page contact email attend attends attended compile refactor debug investigate
    analyze handle handles allow allows enable enables disable disables start starts started stop
    stops stopped return returns select insert import export choose chose chosen picked pick go
    goes going went do does did doing see sees saw join joins joined leave left visit visits
    visited show shows showed find finds found monitor monitors monitoring monitored replace
    replaces replaced restart restarts restarted
    """
)

GENERIC = _words(
    """
    api apis rest http https json xml yaml toml csv tsv pdf html css sql nosql tls ssl ssh ftp tcp
    udp dns dhcp vpn url uri urls uuid id ids cpu gpu ram ssd hdd disk ui ux gui cli sdk ide crud
    orm jwt oauth sso saml ldap mfa cors csrf xss ci cd cicd pr prs mr qa sla slo sli kpi okr mvp
    poc etl eta faq tbd tba asap fyi utc gmt cet cest est pst pdt am pm ok todo fixme rfc adr db
    os vm vms iot ml llm llms nlp ner rag ai bot bots app apps web site website server servers
    client clients service services system systems user users admin admins customer customers team
    teams member members manager people person project projects product products repo repository
    code codebase branch branches main master develop release releases version versions build
    builds deploy test tests testing staging production prod dev development environment env
    config configuration settings setting file files folder directory path paths key keys value
    values token tokens secret secrets password passwords login logout session sessions request
    requests response responses query queries table tables column columns row rows schema index
    indexes database databases cache queue queues stream streams topic topics event events message
    messages log logs logging metric metrics trace dashboard report reports document documents
    documentation docs doc note notes summary overview details description title name names type
    types class classes function functions method methods module modules package packages library
    libraries framework tool tools plugin plugins script scripts command commands job jobs task
    tasks ticket tickets issue issues bug bugs feature features change changes item items list
    lists data dataset model models memory memories entity entities tag tags content text image
    page pages button form field fields menu view views component components interface backend
    frontend fullstack infrastructure cluster node nodes container containers pod pods host
    network internet cloud region zone office home house room company meeting meetings call
    standup sync retro sprint roadmap hiring budget deadline milestone plan plans goal goals idea
    ideas question questions answer answers problem problems solution solutions reason result
    results example examples option options step steps phase status state mode level number
    numbers count total size time date day days hour hours minute minutes second seconds process
    workflow pipeline pattern approach strategy architecture design decision insight context
    preference style habit thing things stuff way part point case head origin readme changelog
    license true false welcome birthday group happy merry holiday vacation user-agent business
    other important root cause editor editors patch default hotfix get-request get post put delete
    important-note pro contra header footer world quarterly weekly monthly daily annual review board
    """
)

# Never part of a person's name; surnames such as Brooks, Page or Bell are not in here.
NOT_IN_NAMES = _words(
    """
    error server client service api database cloud studio hub labs software systems system project
    team group department office university institute college school bank foundation association
    committee council ministry agency company corp inc gmbh ltd llc conference summit street
    avenue road lake river mount mountain bay island park airport station hotel museum church
    festival championship league games prize award act protocol framework library engine platform
    app suite kit code data model cluster gateway pipeline dashboard manager handler factory
    builder controller provider adapter helper util birthday christmas easter settings version
    release bot assistant user
    """
)

ORG_ENDINGS = _words(
    """
    inc corp corporation co company gmbh ag kg se ltd limited llc plc sa sarl sas bv nv ab oy spa
    srl university institute college school bank foundation association committee council ministry
    agency hospital labs technologies analytics consulting partners ventures capital holdings
    group robotics airlines airways insurance union society academy department
    """
)


def _known() -> dict[str, tuple[str, str]]:
    listed = (
        ("concepts", lists.PLACES),
        ("organizations", lists.ORGANIZATIONS),
        ("tools", lists.TOOLS),
    )
    return {
        name.strip().lower(): (category, name.strip())
        for category, names in listed
        for name in names.split("|")
    }


WORDLIKE = _words(lists.WORDLIKE)
GIVEN = _words(lists.GIVEN)
# lower-case name → (category, its usual spelling)
KNOWN = _known()
KNOWN_FIRST_WORDS = frozenset(name.split()[0] for name in KNOWN)
KNOWN_MOST_WORDS = max(len(name.split()) for name in KNOWN)

PLACE_PREPOSITIONS = _words("in aus nach bei à en au aux de from at près")

_FOREIGN = _words(
    """
    der die das den dem ein eine und oder nicht ist sind war wir ich mit für auf aus nach im zum
    zur hat haben wird gestern heute über noch auch sich als beim vom keine möchte wurde le la les
    un une des et ou est sont pas nous vous je avec pour dans sur chaque à au aux du qui que hier
    jusqu'au été l' a on ce cette il elle
    """
) - _words("also a on")
_ENGLISH = _words(
    """
    the and of to is are was were for with that this it has have from by at be on as they we she
    he
    """
)


def is_foreign(lowered: Iterable[str]) -> bool:
    """Whether German or French function words outnumber English ones (two at least)."""
    foreign = english = 0
    for word in lowered:
        foreign += word in _FOREIGN
        english += word in _ENGLISH
    return foreign >= 2 and foreign > english


# What follows a name that opens a sentence, where it is not a verb's -ed or -s.
OPENING_NAME_BEFORE = _words(
    """
    is was and or has had will can could would should may might must does did said told thinks
    wrote won got went came gave took made found left met sent spoke kept
    """
)

# What a person does, or has done to them: it makes a name of a word that only the model
# takes for one.
HUMAN_VERBS = _words(
    """
    wants wanted hates hated likes liked loves loved thinks thought says said asked asks told
    tells wrote writes sent sends takes took prefers preferred agreed agrees suggested
    suggests joined left called mentioned promised replied needs knows knew believes feels
    felt works worked lives lived moved reviewed approved signed presented explained pointed
    offered insisted complained answered owns leads led thanked brought bought broke fixed
    deployed met visited spoke and
    """
)
BEFORE_PEOPLE = _words(
    """
    ask asked asks tell told tells remind reminded call called email emailed ping pinged page paged
    thank thanks meet met invite invited hired introduced mentor manager colleague boss wife husband
    brother sister son daughter friend mother father mum mom dad uncle aunt neighbour neighbor named
    said wrote replied added and
    """
)
BEFORE_ORGANIZATIONS = _words("at for from by joined join with to and client customer vendor bank")
BEFORE_PLACES = _words(
    "in from to near at around of between through visited visiting via across the into towards"
)
INSIDE_NAMES = _words("of the and for on in & und et de la le les du des d' y e")
# What follows a tool's name that opens a sentence, where the word could be a verb.
AFTER_A_TOOL = _words(
    "is was are has had can runs will vs versus and or for with instead over does keeps"
)
# Given names that open a sentence as words: `Mark my words`, `Grace period`.
WORDS_TOO = _words("mark grace frank guy jack jean rich jun till logan mercedes")
AFTER_SUCH_WORDS = _words("my the this that these all as it period your")
ARTICLES = _words("the a an this that these those my our your his her their its")
