"""Names that are known by themselves: technologies, places, organizations, given names.

Kept by hand, from what engineers, teams and their friends talk about; a name that is missing
here is found by its wording or by spaCy, or not at all. Lists hold the usual spelling.
"""

from __future__ import annotations

TOOLS = """
1Password|Ableton|Actix|Airbyte|Airflow|Airtable|AKS|Alembic|Alfred|Algolia|Alpine Linux|
Amazon Bedrock|Amazon S3|Amazon SQS|Amplitude|Android|Android Studio|Angular|Anki|Ansible|
Anthropic API|Apache Arrow|Apache Beam|Apache Iceberg|Apache Kafka|Apache Spark|Apigee|
App Engine|Appium|ArangoDB|Arch Linux|Arduino|Argo CD|ArgoCD|Artifactory|Asana|ASP.NET|Astro|
Auth0|AutoGPT|Avro|AWS|AWS Lambda|Axum|Azure|Azure DevOps|Azure Functions|Babel|Backstage|
Basecamp|Bash|Bazel|BigBlueButton|BigQuery|Bitbucket|Bitwarden|Blazor|Blender|Bootstrap|
Buildkite|BullMQ|Bun|Caddy|Calendly|Camunda|Canva|Cargo|Cassandra|Celery|CentOS|Ceph|Certbot|
ChatGPT|ChromaDB|Chrome|Cilium|CircleCI|Claude|Claude Code|ClickHouse|Clickup|Clippy|Clojure|
Cloud Run|Cloudflare|CloudFormation|CloudFront|CloudWatch|CMake|COBOL|CockroachDB|Codex|
Cognito|Composer|Confluence|Consul|Copilot|Cosmos DB|Couchbase|CouchDB|CrewAI|Crossplane|
CSS Grid|Cucumber|CUDA|Cursor|Cypress|D3.js|Dagster|DALL-E|Dart|Dask|Databricks|Datadog|
Debezium|Debian|DeepSeek|Delta Lake|Deno|DigitalOcean|Discord|Django|Docker|Docker Compose|
DocuSign|Drizzle|Dropbox|Druid|Drupal|DSPy|DuckDB|Duolingo|DynamoDB|EC2|Eclipse|ECS|EKS|
Elasticsearch|Electron|Elixir|Emacs|Ember|Envoy|Erlang|ESLint|ESP32|etcd|Evernote|Excel|
Express|F#|Fail2ban|Faiss|FalkorDB|FastAPI|Fastify|Fastly|Fedora|Figma|Filebeat|Firebase|
Firefox|Firestore|Fitbit|Flask|Flink|Fluent Bit|Fluentd|Flutter|Flux|Fly.io|Flyway|Fortran|
Gatling|Gatsby|Gemini|Gerrit|Ghidra|Gitea|GitHub|GitHub Actions|GitLab|GKE|Gmail|Godot|Golang|
Google Analytics|Google Calendar|Google Cloud|Google Docs|Google Drive|Google Meet|
Google Sheets|GPT-3|GPT-4|GPT-4o|GPT-5|Gradio|Gradle|Grafana|Grafana Loki|GraphQL|Groovy|gRPC|
Hadoop|Hapi|HAProxy|Harbor|Haskell|HBase|Helm|Heroku|Hetzner|Hibernate|Home Assistant|
Homebrew|Hotjar|HubSpot|Hugging Face|IAM|IFTTT|Illustrator|InfluxDB|IntelliJ|Intercom|
InVision|iOS|iPad|iPhone|Istio|iTerm|Jaeger|Java|JavaScript|Jekyll|Jenkins|Jest|Jetty|Jira|
Jitsi|Joomla|jQuery|Julia|JUnit|Jupyter|K3s|K6|K8s|Kafka|Kafka Connect|Kafka Streams|
Karpenter|KeePass|Keras|Kestrel|Keycloak|Kibana|Kindle|Kinesis|Knex|Koa|Kotlin|Ktor|
Kubernetes|Kustomize|LanceDB|LangChain|LangGraph|Laravel|LastPass|LaTeX|LaunchDarkly|Lerna|
LightGBM|Lightroom|Linear|Linkerd|Linux|Liquibase|Llama 3|LlamaIndex|Locust|Logseq|Logstash|
Loki|Looker|Loom|Lua|Lucene|MacBook|macOS|Magento|Mailchimp|MariaDB|Markdown|Mathematica|
MATLAB|Matplotlib|Mattermost|Maven|Meilisearch|Memcached|Memgraph|Mercurial|Metabase|
Micronaut|Microsoft Teams|Microsoft Word|Midjourney|Milvus|Minikube|MinIO|Miro|Mixpanel|
Mixtral|MLflow|Mocha|MongoDB|Mongoose|Moodle|Mosquitto|MQTT|mypy|MySQL|Nagios|NATS|Neo4j|
Neovim|NestJS|NetBeans|Netlify|NetSuite|New Relic|Next.js|Nextcloud|Nginx|NiFi|
Nintendo Switch|Node-RED|Node.js|NodeJS|Nomad|Notion|npm|NumPy|Nuxt|Nuxt.js|Objective-C|
Obsidian|OCaml|Okta|Ollama|OneNote|OpenAI API|OpenCV|OpenSearch|OpenShift|OpenSSL|
OpenTelemetry|OpenVPN|Opsgenie|Oracle Database|Outlook|Overleaf|Packer|PagerDuty|Pandas|
Pandoc|PayPal|Perl|pgvector|Phoenix|Photoshop|PHP|PHPUnit|Pi-hole|Pinecone|PlayStation|
Playwright|Plotly|pnpm|Podman|Poetry|Polars|Portainer|Postgres|PostgreSQL|Postman|Power BI|
PowerPoint|PowerShell|Prefect|Prettier|Prisma|Prometheus|Protobuf|Proxmox|Pulsar|Pulumi|
Puppeteer|PyCharm|Pydantic|Pylint|PyPI|Pytest|Python|PyTorch|Qdrant|QEMU|Quarkus|QuickBooks|
Qwen|RabbitMQ|Rails|Railway|Rancher|Raspberry Pi|Raycast|RDS|React|React Native|
Red Hat Enterprise Linux|Redash|Redis|Redis Streams|Redshift|Redux|Remix|Render|RethinkDB|
Retool|Roam Research|Rollup|Route 53|RSpec|RStudio|Rsync|Ruby|Ruby on Rails|Ruff|Rust|S3|
Safari|SageMaker|Salesforce|SaltStack|Sass|Scala|scikit-learn|SciPy|Scrapy|ScyllaDB|Selenium|
SendGrid|Sentry|Sequelize|ServiceNow|SharePoint|Shopify|Sidekiq|Signal|Skype|Slack|Snowflake|
Snyk|Solidity|SolidJS|Solr|SonarQube|spaCy|Spark|Spinnaker|Splunk|Spring Boot|SQL Server|
SQLAlchemy|SQLite|Squarespace|Stable Diffusion|Step Functions|Storybook|Strava|Streamlit|
Stripe|Sublime Text|Supabase|Superset|Svelte|SvelteKit|Swift|SwiftUI|Symfony|Tableau|
Tailscale|Tailwind|Tailwind CSS|TeamCity|Teams|Tekton|Telegram|Temporal|TensorFlow|Terraform|
Testcontainers|Thanos|Three.js|TiDB|TimescaleDB|tmux|Todoist|Tokio|Tomcat|Traefik|Travis CI|
Trello|Trino|Trivy|tRPC|Turborepo|Twilio|TypeORM|TypeScript|Typesense|Ubuntu|Unity|
Unreal Engine|Uvicorn|Vagrant|Vault|Vercel|Vertex AI|Vespa|VictoriaMetrics|Vim|VirtualBox|
Visual Studio|Visual Studio Code|Vite|Vitest|vLLM|VMware|VS Code|Vue|Vue.js|Vuex|Wayland|
Weaviate|WebAssembly|Webex|Webflow|Webpack|WebSocket|WebStorm|WhatsApp|Whisper|Windows|
WireGuard|Wireshark|WooCommerce|WordPress|Workday|WSL|Xamarin|Xbox|Xcode|XGBoost|Yarn|YouTube|
YugabyteDB|Zabbix|Zapier|Zellij|Zendesk|Zig|Zigbee|Zod|ZooKeeper|Zoom|Zotero|Zsh|Zustand
"""

PLACES = """
Aarhus|Abu Dhabi|Accra|Adelaide|Africa|Albania|Algeria|Algiers|Alps|Amsterdam|Andes|Angers|
Angola|Ankara|Antarctica|Antwerp|Argentina|Arizona|Armenia|Asia|Athens|Atlanta|Atlantic|
Auckland|Augsburg|Australia|Austria|Baku|Bali|Baltic Sea|Bangalore|Bangkok|Bangladesh|
Barcelona|Basel|Bavaria|Beijing|Beirut|Belarus|Belfast|Belgium|Belgrade|Bergen|Berlin|Bern|
Bielefeld|Bilbao|Bochum|Bogotá|Bolivia|Bologna|Bonn|Bordeaux|Bosnia|Boston|Botswana|Brasília|
Bratislava|Brazil|Bremen|Brisbane|Bristol|Brittany|Brno|Brussels|Bruxelles|Bucharest|Budapest|
Buenos Aires|Bulgaria|Cairo|Calais|California|Cambodia|Cambridge|Cameroon|Canada|Cannes|
Cape Town|Caracas|Cardiff|Casablanca|Chennai|Chicago|Chile|China|Cologne|Colombia|Colombo|
Colorado|Copenhagen|Cork|Costa Rica|Crete|Croatia|Cuba|Cyprus|Czechia|Dakar|Dallas|Delhi|
Denmark|Denver|Detroit|Dhaka|Dijon|Doha|Dortmund|Dover|Dresden|Dubai|Dublin|Düsseldorf|
Ecuador|Edinburgh|Egypt|Eindhoven|England|Erfurt|Estonia|Ethiopia|Europe|European Union|
Finland|Florida|France|Frankfurt|Freiburg|Fukuoka|Galway|Gdańsk|Geneva|Genf|Germany|Ghana|
Ghent|Glasgow|Gothenburg|Granada|Graz|Greece|Grenoble|Groningen|Guangzhou|Hamburg|Hannover|
Hanoi|Hanover|Havana|Hawaii|Heidelberg|Helsinki|Himalayas|Hobart|Hong Kong|Houston|Hungary|
Hyderabad|Iceland|Illinois|India|Indonesia|Innsbruck|Iran|Iraq|Ireland|Israel|Istanbul|Italy|
Jakarta|Jamaica|Japan|Jena|Jerusalem|Johannesburg|Kampala|Karachi|Karlsruhe|Kassel|Kathmandu|
Kazakhstan|Kenya|Kiel|Kiev|Kolkata|Korea|Kraków|Kuala Lumpur|Kuwait|Kyiv|Kyoto|Köln|Lagos|
Lahore|Las Vegas|Latvia|Lausanne|Lebanon|Leeds|Leipzig|Liechtenstein|Lille|Lima|Linz|Lisbon|
Lithuania|Liverpool|London|Los Angeles|Lucerne|Luxembourg|Lyon|Lübeck|Madagascar|Madrid|Mainz|
Malaysia|Malmö|Malta|Manchester|Manila|Mannheim|Marseille|Massachusetts|Medellín|
Mediterranean|Melbourne|Mexico|Miami|Michigan|Moldova|Monaco|Mongolia|Montenegro|Montpellier|
Montreal|Montréal|Morocco|Moscow|Mumbai|Munich|Myanmar|Málaga|München|Münster|Nairobi|Namibia|
Nantes|Naples|Nepal|Netherlands|Nevada|New Jersey|New York|New Zealand|Nigeria|Normandy|
North Sea|Norway|Nuremberg|Nürnberg|Ohio|Oman|Oregon|Osaka|Oslo|Ottawa|Oxford|Pacific Ocean|
Pakistan|Palermo|Paraguay|Paris|Pennsylvania|Perth|Peru|Philadelphia|Philippines|Poland|Porto|
Porto Alegre|Portugal|Potsdam|Poznań|Prague|Provence|Pune|Pyrenees|Qatar|Quebec|Quito|Québec|
Reims|Rennes|Reykjavík|Riga|Rio de Janeiro|Riyadh|Romania|Rome|Rostock|Rotterdam|Russia|
Rwanda|Sahara|Salzburg|San Diego|San Francisco|Sapporo|Sarajevo|Saudi Arabia|Scandinavia|
Scotland|Seattle|Senegal|Seoul|Serbia|Sevilla|Seville|Shanghai|Shenzhen|Sicily|Singapore|
Slovakia|Slovenia|South Africa|South Korea|Spain|Sri Lanka|Stockholm|Strasbourg|Stuttgart|
Sweden|Switzerland|Sydney|Syria|São Paulo|Taipei|Taiwan|Tallinn|Tanzania|Tbilisi|Tel Aviv|
Texas|Thailand|The Hague|Tokio|Tokyo|Toronto|Toulouse|Trondheim|Tunis|Tunisia|Turin|Turkey|
Tuscany|Uganda|Ukraine|United Kingdom|United States|Uruguay|Utah|Utrecht|Valencia|Valparaíso|
Vancouver|Venezuela|Venice|Verona|Vienna|Vietnam|Vilnius|Warsaw|Washington|Wellington|Wien|
Wrocław|Wuppertal|Yemen|Yerevan|Zagreb|Zambia|Zimbabwe|Zurich|Zürich
"""

ORGANIZATIONS = """
Accenture|Adidas|Adobe|Air France|Airbnb|Airbus|Aldi|Alibaba|Allianz|Amazon|AMD|
Amnesty International|Anthropic|Apple|ASML|AstraZeneca|AT&T|Atlassian|Atos|Audi|Barclays|BASF|
Bauhaus|Bayer|BBC|BCG|Berkeley|BlackRock|BMW|Boeing|Bolt|Booking.com|Bosch|Broadcom|ByteDance|
Caltech|Canonical|Capgemini|Carrefour|CERN|Cisco|CNN|Coca-Cola|Comcast|Confluent|
Credit Suisse|DeepMind|Delivery Hero|Dell|Deloitte|Deutsche Bahn|Deutsche Bank|Deutsche Post|
Deutsche Telekom|DHL|Disney|DoorDash|easyJet|Emirates|Ericsson|ESA|ETH Zurich|
European Commission|EY|Facebook|Farfetch|FedEx|FIFA|Ford|Fraunhofer|Goldman Sachs|Google|
Greenpeace|H&M|Harvard|HashiCorp|Hewlett Packard|Honda|HP|HSBC|Huawei|Hyundai|IBM|IKEA|IMF|
Infosys|ING|Intel|JetBrains|JPMorgan|Klarna|KLM|KPMG|Lenovo|Lidl|LinkedIn|Lufthansa|Lyft|
Mastercard|Max Planck Institute|McDonald's|McKinsey|Mercedes-Benz|Merck|Meta|Microsoft|
Mistral AI|MIT|Moderna|Monzo|Morgan Stanley|Mozilla|N26|NASA|NATO|Nestlé|Netflix|Nike|Nokia|
Novartis|NVIDIA|OpenAI|Oracle|Oxfam|Palantir|Pepsi|Pfizer|Philips|Porsche|Princeton|Puma|PwC|
Qualcomm|Red Cross|Red Hat|Renault|Reuters|Revolut|Rewe|Roche|Ryanair|Samsung|SAP|Siemens|
Sony|SpaceX|Spotify|Stanford|Starbucks|Tencent|Tesla|Thales|TikTok|Toyota|TSMC|Twitter|Uber|
UBS|UEFA|UNESCO|UNICEF|Unilever|United Nations|UPS|Verizon|Visa|Vodafone|Volkswagen|Volvo|
Walmart|WHO|Wikimedia|Wikipedia|Wipro|Wise|World Bank|Xiaomi|Yale|Zalando|Zara
"""

# Technologies that are ordinary words too: they count in their own spelling only.
WORDLIKE = """
alfred alpine amplitude android angular ansible astro axum babel backstage basecamp bash
blender bootstrap bun caddy cargo celery certbot chrome claude clippy composer consul copilot
cucumber cursor cypress dagster dart discord django docker drizzle dropbox druid eclipse
electron elixir emacs ember envoy excel express fastify fedora flask flink flux gemini gradle
groovy harbor haskell helm illustrator intercom java jekyll jest jetty julia keras kestrel
kindle koa linear locust loki looker loom lua maven miro mocha nats neo nomad notion nuxt
obsidian oracle outlook packer pandas perl phoenix pinecone poetry polars prefect prettier
prisma prometheus pulsar python rails railway react redshift redux remix render rollup ruby
ruff rust safari sass scala segment sentry signal slack snowflake solr spark splunk stripe
svelte swift symfony tableau tailwind teams telegram temporal thanos tokio tomcat traefik
unity vagrant vault vespa vim vite vue whisper windows word workday yarn zapier zig zod zoom
"""

# Given names of many languages; left out where the word is more often something else.
GIVEN = """
aaron abdul abigail ada adaeze adam adebayo aditi aditya adrian agata agnes agnieszka ahmed
aiko aino aisha akash akiko akira alan alastair alba albert alberto alejandra alejandro
aleksander aleksandra alessandra alessandro alessio alex alexander alexandra alexei alexis
alfonso alfred alhassan ali alice alicia alina alison allison alphonse alvaro amadeus amadou
amal amanda amara amelia amelie amina amir amit amy amélie ana anand ananya anastasia anatoly
anders andre andrea andreas andrei andrej andres andrew andrzej aneta angela angelika angus
anika anil anita anja anjali anke ann anna anna-lena annabelle anne annelies anneliese
annemarie annette annika ansel anthony antoine anton antonia antonio antti anu anusha anya
aoife archie ariadne ariel arjen arjun arman armando arnaud arne arnold artem arthur arturo
asha ashley ashok asif astrid audrey aurelie aurelien aurora aurélie aurélien axel ayaan
ayesha aylin ayumi azadeh babak baptiste barbara bartosz bastian beate beatrice beatrix
beatriz belen bella ben benedetta benedikt benita benjamin benoit benoît bente berit
bernadette bernard bernardo bernd bertha bertrand beth bettany bettina bhavna bianca bilal
birgit birgitta bjarne bjorn björn blanca bob bogdan boleslaw bonnie boris boubacar brandon
branko brenda brendan brennan brian bridget brigitte britta bronwyn bruce bruno burak béatrice
caitlin callum cameron camila camille candace carina carl carla carlo carlos carlotta carmen
carol carolin carolina caroline carsten casper catalina catherine cecile cecilia cedric celine
cem chandra charles charlotte chen chiara chidi chinedu chioma chiyo chloe chloé chris christa
christian christiane christina christine christoffer christoph christophe christopher ciara
cillian claire clara clarence clarissa claudia claudio clemence clemens clement clifford clive
clémence clément coen colette colin connor conrad constance cordula corentin corinna cornelia
craig cristian cristina curtis cynthia cyril cécile céline dagmar dagny daisuke dalia damian
damien dan dana danica daniel daniela danielle danilo danuta daria dario dariusz darko darren
dave david dawid deanna debbie deborah declan deepa deepak deirdre delphine demetrius denis
denise dennis derek derya desmond devin diana didier diego dieter dietmar dilip dimitra
dimitri dinesh dino dirk dmitri dmitry dobromir dolores domenico dominic dominik dominique
donald donna doreen dorian doris dorota dorothea douglas dragan duncan dusan dwight dylan ebba
eberhard eckhard eckhart edgar edith edmund edna eduardo edward edwin egon eileen einar eino
ekaterina eleanor eleanora elena eleni eleonora elias elif elin elisa elisabeth elise
elizabeth elke ella ellen ellie elmar elodie eloise elsa elvira emanuele emeka emiko emil
emilia emilio emily emine emma emmanuel emre enrico enrique enzo eoin eric erica erik erika
erin ernst erwin eske espen esteban estelle esther etienne eugene eun eunice eusebio eva evan
evander evangeline eve evelyn evgeny ewa ewan ezra fabian fabien fabio fabrice fabrizio faisal
farah farid fatemeh fatima fatou federica federico felicia felicity felipe felix ferdinand
ferenc fernanda fernando filip filippo finn fiona fiorella flavia fleur flora florence florian
florin franca frances francesca francesco francine francis francisco franck franco francois
francoise frank franz françois françoise frederic frederik fredrik freya friedrich fritz
frédéric fumiko gabriel gabriela gabriele gabriella gail gareth garrett gary gaspard gaurav
gavin geert genevieve geoffrey georg george georgia georgios gerald geraldine gerard gerd
gerhard germaine ghada giacomo gianluca gianna gilbert giles gilles gina giorgio giovanni
gisela gitte giulia giuseppe gloria godfrey gonzalo gopal goran gordon grace graciela graham
grazia greg gregor gretchen grzegorz guadalupe gudrun guido guilherme guillaume gulsen gunnar
gustav gustavo guy gwen gwendolyn günther haakon hadley hakan hakim hamid hamza hana hank
hanna hannah hannelore hannes hans harald hari harlan harold harriet harry hartmut haruki
harvey hasan hassan hayato hayley heath heather hector hedda heidi heidrun heike heiko
heinrich heinz helen helena helene helga helmut heloise hendrik henning henri henrietta henrik
henry henryk herbert herman hermann hernan hideo hilary hilda hildegard hina hiro hiroko
hiroshi hisham holger horst hortense howard hubert hugh hugo humberto hussein hyun iain ian
ibrahim ibrahima ida ignacio igor ikaika ilaria ilona ilse ilya imani imke immanuel imran ines
inga ingeborg ingmar ingo ingrid inês ioana ioannis irene irina irmgard isaac isabel isabella
isabelle isaiah isha ishaan ismail isolde istvan itzel ivan ivana ivo iwan jaakko jaap jacek
jack jackie jackson jacob jacqueline jacques jada jaime jairo jakob jakub jamal james jamie
jan jan-erik jana jane janet janine janis jared jarek jari jaroslav jasmin jasmine jason
jasper javier jayden jazmin jean jeanne jeannette jeff jeffrey jelena jelle jenna jennifer
jenny jens jeremy jerome jerzy jesper jessica jesus jia jill jim jin jiri jitka joachim joan
joanna joao joaquin jocelyn jochen jody joel joelle joerg johan johann johanna johannes john
johnny jolanta jolene jon jonah jonas jonathan jonna joost jordi jorge jose josef josefina
joseph josephine josh joshua josiah josip josé jovana joyce joão juan juanita judith juha
jukka jules julian juliane julie julien juliette julio julius jun june jurgen juris justin
jutta jérôme jörg jürgen kai kaito kaja kalle kamal kamil kamila kaori kareem karen kari karim
karin karina karl karolina karsten kasia kaspar katarina katarzyna kate katerina katharina
katherine kathleen kathrin kathryn katie katja katrin katya kavita kaya kazuo keiko keira
keith kelly kelsey kemal ken kendra kenji kenneth kerry kerstin kevin khalid kieran kim
kimberly kiran kirsten kirsty klara klaus kofi konrad konstantin kristen kristin kristina
kristof krzysztof kunal kurt kurtis kwame kyle kyoko laila lakshmi lalita lamar lana lara
larissa larry lars lasse laszlo latisha laura lauren laurence laurens laurent laurie lazar lea
leah leandro lee leif leila lena leo leon leonard leonardo leonid leonie leopold leroy leslie
lester leszek leticia letizia levi liam lidia lidija liesel lieselotte lila lilian liliana
lillian lily lina linda lionel lisa liv livia liz ljubica logan lorenzo loretta lorna lorraine
lothar lotte louis louise lourdes luba luca lucas lucia lucie lucy ludmila ludovic ludwig
luigi luis luisa lukas lukasz luke lutz luz lydia lyudmila léa maarten mabel maciej madeleine
madison maeve magda magdalena maggie magnus mahmoud maike mairead maja makoto malcolm
malgorzata malik malin mallory mandy manfred manish manoj manon manoush manuel manuela marc
marcel marcela marceline marcelo marcin marco marcos marcus marek maren margaret margarita
margaux margit margot margrit maria mariam marian mariana marianna marianne maribel maricel
marie marielle mariko marina mario marion marit marius mariusz marjorie mark marko markus
marlene marlon marnie marsha marta martha martijn martin martina marvin marwan mary maría
masako massimo matej mateo mateusz mathias mathieu mathilde matias mats matt matteo matteus
matthew matthias matthieu mattias maurice mauricio maurizio max maxim maxime maximilian maxine
maya maylis małgorzata meera megan mehdi mehmet mei meike meilin melanie melinda melissa
melody menno mercedes meredith merle mette mia mia-sophie micah michael michaela michail
michal michał michel michele michelle miguel miguelina mihai mika mikael mike mikhail mikkel
mila milena milica milos miloš mina ming minh minna mira mireille mirela miriam mirjam
miroslav misaki mitchell mitra mohamed mohammed mohit moira momoko mona monica monika monique
montserrat morgan moritz morten moses muhammad murat mustafa mutsumi myra myriam myrna nabil
nada nadeem nadia nadine nadja naeem najib nancy nanette naoko naomi naoto nasser natalia
natalie natascha natasha nate nathalie nathan nathaniel navin neha neil nele nelly nelson
nerys nia niamh nicholas nick nico nicola nicolai nicolas nicole nicoletta niels nigel nikhil
nikita niklas nikola nikolai nikolaj nikolaos nikolaus nils nils-petter nina noah noam noel
noemi noemie nora norbert noriko norma norman nour noé noémie nuno nura nuria obinna odette
odile ofelia oksana olaf olav olave oleg oleksandr oleksii olena olga oliver olivia olivier
olumide omar ondrej oona ophelia oriol orla orlando oscar oskar osman osvaldo otis ottilie
otto owen pablo padraig paige pamela paolo pascal pascale pascual patrice patricia patrick
patrik paul paula pauline paulo pavel pawel paweł pedram pedro peggy pekka penelope pernille
perry petar peter petr petra petros petteri phil philip philipp philippe phoebe phyllis pia
piero pierre pietro pilar piotr polina pooja prakash pranav preeti priya priyanka prudence
przemek quentin quincy rachel radek radka radoslav rafael rafal rafał raghav rahul raimund raj
rajesh rajiv ralf ralph ramesh ramon ramona rania ranjit raphael raquel rashid rasmus ravi
ravindra raymond rebecca reggie regina reginald reiko reiner reinhard remco remi renata renate
renaud rene rené reto reza rhiannon rhys ria ricarda ricardo riccardo richa richard riku rina
risa rita roald rob robbie robert roberta roberto robin rocio rodney rodrigo roger rohan rohit
roland rolando rolf romain roman romy ron ronald rory rosa rosalie rosalind rosario rosemary
roswitha rowena roxana roxane roy ruben rubén rudolf rukmini runa rupa rupert ruslan russell
rutger ruth ryan rémi sabine sabrina sadia sadie saeed sakura salim salma salman salome
salvador salvatore sam samantha sami samir samira samuel samuli sandeep sandra sandrine sanjay
sanna santosh saoirse sara sarah sascha saskia satoshi saul savannah scarlett scott seamus
sean sebastian selena selina selma semra seo serena serge sergei sergey sergio serhii seth
severine shankar shannon sharon shaun shauna sheila shirin shirley shoshana shota shreya
shreyas sibel sibylle sidney sidsel siegfried sierra sigrid sigurd silas silje silke silvana
silvia silvio simeon simon simona simone sindre sinead sinéad siobhan siobhán siri slavko
slobodan snezana sofia solange solveig sondre sonia sonja sophia sophie soraya soren spencer
stacey stanislav stanisław stefan stefania stefanie stefano steffen stelios stella stephan
stephane stephanie stephanos stephen steve steven stig stuart stéphane stéphanie subhash sudha
sumi sunil sunita suresh susan susana susanne suzanne sven svenja svetlana swati sybille
sylvain sylvester sylvia sylvie sylwia szymon sébastien séverine sølvi søren tadashi tadeusz
tahir takashi takeshi takumi talia tamar tamara tammy tancredi tania tanja tanvi tara tarek
tariq tatiana tatyana tayo ted teodor terence teresa tessa teuvo thaddeus thandiwe thea theo
theodor theodora theodore theresa theresia thierry thijs thilo thokozani thomas thorsten
thérèse tiago tiffany tilda till tilman tim timea timo timon timothy tina tobiah tobias todd
todor tom tomas tomasz tomer tomislav tomoko tonia tony torben tore toril torstein torsten
tova tracy travis trevor trine tristan troels trude truls tuomas tuula tyler tyrone udo ulf
ulla ulrich ulrike uma umar umberto urs ursel ursula uta ute uwe vaclav valentin valentina
valentino valeria valerie valter valérie vanessa vasilis vasily vaughn veerle velma venkat
vera vera-maria verena verity veronica veronika vesna vicente vicky victor victoria vidar
vijay vijaya vikram viktor viktoria vinay vincent vincenzo viola violeta violetta virginia
virginie vito vittoria vivek vivian vivienne vladimir vladislav vlasta vojtech volker václav
véronique walter wanda wei wendelin wendy wenke werner wiebke wiktor wilfried wilhelm
wilhelmina willem william wilma winfried winston wioletta wojciech wolf wolfgang wouter
woutera xander xavier ximena xin xiomara yael yahya yan yanis yann yannick yara yaroslav
yasemin yasmin yasmine yasuhiro yasuko yelena yevgeny ylva yngve yoko yolanda yosef yoshi
yoshiko youssef yuki yukiko yuko yulia yumi yuna yuri yusuf yuto yuval yvan yves yvette yvonne
zachary zahra zainab zbigniew zdenek zdenka zeynep zhang zoe zofia zoltan zora zoë zsofia
zuzana zygmunt álvaro élodie étienne łukasz
"""
