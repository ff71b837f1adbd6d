"""Short common English words, our own list, to write prompts with: each is one token in nearly every vocabulary.

With a space before it every word is a single token for the vocabularies of GPT-2 to GPT-4o, Claude, Qwen, Mistral and
DeepSeek; those of `_FIRST` also without one, as at the start of a prompt. Both lists have a power of two of them, so
that bits of a random number pick one.
"""

_FIRST = """
    the of and to in that is was for it with as his on be at by had not are but from or have an they which one you
    were all her she there would their we him been has when who will no more if out so up said what its about than
    into can only other time new some could these two may first then do any like my now over such our man me even
    most made after also did many off before must well back through years much where your way down should because
    long each just state people those too how little good world make very year still see own work men day get here
    old life both between being under three never know same last another while us might great go since against right
    take come few house use during without again place around home small found went say part once high general upon
    school every got left number course war until always away something fact water though less public put think
    almost hand far head yet system set better nothing night end why called find going look later point next city
    give group days room present order second rather face given white within side case need large four big important
    want often thing form social early light word business keep interest open name mind mother country money family
    done week door body true clear problem along known history felt best program company girl line power service
    church car field love free community national really local having five development age able close office full
    past study child reason held seen among area level act run stand short making question human special job half
    control real value view street policy hard south west land rest kind hour hours action type front position
    result son ground late process major red strong force book plan figure table art record union today answer
    private show move effect read month party trade play education story change court support live peace black
    common property center tax deep road cost single food leave hold town paper size father list space air learn
    price letter third fire green help voice ten stage lost blue class stop section river fine hot board market
    bring add try material period wide surface current higher likely issue nor simple soon six below near dark
    growth ready fall start turn friend amount central hall data subject film test unit talk role stock weight total
    final game season range normal key wall news middle plane heart choice step model method cause race arms easy
    spring rate basic note song sea hair nation page student foot bad doctor standard window hit ball training cut
    return event unless direct main break glass author quality picture direction bank sun pressure style post degree
    pay wrong design lead station wait ship sound product quick risk forward club goal bar seat star sign date stay
    bed arm drive credit pass sort count write sent loss rise plant camp rule region bill rich parts hill base
"""
_OTHERS = """
    them came however thought united enough took government told asked knew young possible several turned seemed
    others saw already sure means become feet political whole least gave moment wanted looking together eyes matter
    hear tell idea taken toward feel north east research heard across evidence certain hope behind necessary wife
    meet army century chance sense cold miles tried nature attention industry beginning happened longer increase
    seven morning shall gone island trial president serious visit weeks meeting summer science moral carry effort
    spirit entire trouble truth theory practice trees provide hotel beautiful speak winter farm hundred marriage
    military growing speech garden fish share train corner square source memory review safe radio beyond mouth nine
    eight foreign fast doubt stone apart clean cell dry round kept machine tree bright watch heavy skin sold poet
    clothes piece dog fresh soft sharp build paid active ride sleep sight forest cool desk park flat band laid
    listen opinion original bottom extra warm rain coffee oil iron snow smile sky gold kitchen yellow moon wine
    bread salt cook dinner lunch cup milk meat sugar egg fruit apple corn rice tea boat track bridge coast lake
    ocean wave wind storm cloud beach sand rock mountain valley desert wood leaf flower grass seed root bird horse
    cat cow pig sheep lion bear wolf snake bee king queen prince captain judge lawyer teacher nurse driver pilot
    artist singer writer actor player coach leader member owner engineer guard guest neighbor sister brother uncle
    aunt cousin baby kid lady boy crowd team crew staff jury shop store pub gym museum library theater studio
    factory mill port dock airport bus taxi truck bike wheel engine motor fuel gas tank pipe wire cable switch
    button screen phone camera clock lamp bell lock chain rope knife fork spoon bowl plate pan box bag bottle basket
    bucket tool hammer nail brush pen ink card stamp map flag coin ring hat cap shirt dress skirt coat jacket shoe
    boot sock glove belt tie suit silk cotton wool leather plastic steel copper silver metal brick tile floor roof
    ceiling stairs gate fence yard path trail lane tower castle palace temple tent cabin barn shed garage basement
    eat drink buy sell borrow win lose throw catch kick jump climb swim fly dance sing laugh shout whisper kiss hug
    push pull lift drop roll slide shake twist bend fold freeze melt mix pour fill empty wash wipe sweep dig grow
    pick gather feed sail row crash repair fix paint draw print copy paste delete save load send receive reply call
    text search browse click scan check measure weigh compare choose decide agree argue discuss explain describe
    define prove guess wonder believe trust forget remember recall notice ignore avoid prevent protect defend escape
    hide seek follow teach guide advise warn promise reward praise forgive thank invite greet introduce welcome join
    enter exit arrive depart travel remain settle belong exist appear vanish happen occur begin finish continue
    pause delay hurry rush happy sad angry calm proud shy brave afraid tired bored excited nervous hungry healthy
    weak loud quiet silent dim sweet sour bitter
"""

FIRST: tuple[str, ...] = tuple(_FIRST.split())
"""512 words to begin a prompt with."""
WORDS: tuple[str, ...] = (*FIRST, *_OTHERS.split())
"""1024 words."""
