"""Tables written by hand for `make_topics.py`: names to take, English spellings, and facts that no package holds.

Plain text, split at commas, semicolons or line ends. What is left out, and why, stands beneath each table. Licence:
Apache-2.0, as the project.
"""

TERRITORIES = """
    AI AN AQ AS AW AX BL BM BQ BV CC CK CS CW CX EH FK FO GF GG GI GL GP GS GU HK HM IM IO JE KY MF MO MP MQ MS NC NF
    NU PF PM PN PR RE SH SJ SX TC TF TK UM VG VI WF YT
"""
"""Countries of GeoNames that belong to another, or exist no longer (AN, CS): not in the capitals."""

NO_ONE_CAPITAL = """
    BI BJ BO CI GQ ID LK MY NR PW SZ TZ YE ZA
    IL PS TW XK
"""
"""First line: several capitals, none by law, or one that has moved or is moving. Second line: the country or its
capital is disputed."""

COUNTRY_NAMES = """
    AE the United Arab Emirates; BS the Bahamas; CD the Democratic Republic of the Congo;
    CF the Central African Republic; CG the Republic of the Congo; CV Cape Verde; CZ the Czech Republic;
    DO the Dominican Republic; GB the United Kingdom; GM the Gambia; KM the Comoros; MH the Marshall Islands;
    MV the Maldives; NL the Netherlands; PH the Philippines; SB the Solomon Islands; SC the Seychelles;
    TL East Timor; US the United States
"""
"""As they stand in the middle of a sentence, where GeoNames has them otherwise."""

CAPITAL_NAMES = """
    BR Brasília; CM Yaoundé; CO Bogotá; CR San José; KI South Tarawa; KZ Astana; MM Naypyidaw; MV Malé; PY Asunción;
    TG Lomé
"""
"""The usual English spelling, where GeoNames has an older or a plainer one."""

CITIES = """
    AE Dubai, Abu Dhabi, Sharjah
    AF Kabul, Kandahar, Herat, Jalalabad
    AL Tirana
    AM Yerevan
    AO Luanda, Huambo, Lobito, Benguela
    AR Buenos Aires, Rosario, Mar del Plata, Salta, Mendoza, La Plata, Bahía Blanca, Posadas, Neuquén, Resistencia
    AT Vienna, Graz, Linz, Salzburg, Innsbruck
    AU Sydney, Melbourne, Brisbane, Perth, Adelaide, Canberra, Hobart, Darwin, Geelong, Wollongong, Cairns,
        Townsville
    AZ Baku, Ganja, Sumgait
    BA Sarajevo, Banja Luka
    BD Dhaka, Chittagong, Khulna, Rajshahi, Sylhet, Comilla, Rangpur, Mymensingh
    BE Brussels, Antwerp, Ghent, Charleroi, Liège, Bruges
    BF Ouagadougou, Bobo-Dioulasso
    BG Sofia, Plovdiv, Varna, Burgas
    BI Bujumbura
    BJ Cotonou, Porto-Novo
    BO La Paz, Cochabamba, Sucre, Oruro, Santa Cruz de la Sierra
    BR Rio de Janeiro, Brasília, Belo Horizonte, Fortaleza, Manaus, Curitiba, Recife, Porto Alegre, Campinas,
        Goiânia, Maceió, Florianópolis, São Paulo, Guarulhos, Natal
    BW Gaborone
    BY Minsk, Vitebsk, Brest
    CA Toronto, Montreal, Vancouver, Calgary, Ottawa, Edmonton, Winnipeg, Mississauga, Halifax, Saskatoon, Regina,
        Windsor, Kitchener, Brampton
    CD Kinshasa, Lubumbashi, Kisangani, Goma, Bukavu, Kananga
    CF Bangui
    CG Brazzaville, Pointe-Noire
    CH Zurich, Geneva, Basel, Lausanne, Bern
    CI Abidjan, Yamoussoukro, Bouaké
    CL Santiago, Valparaíso, Antofagasta, Viña del Mar, Concepción, Temuco, Iquique
    CM Douala, Yaoundé, Bamenda
    CN Shanghai, Beijing, Shenzhen, Guangzhou, Chengdu, Tianjin, Wuhan, Nanjing, Hangzhou, Chongqing, Shenyang,
        Harbin, Dalian, Qingdao, Xi'an
    CO Bogotá, Medellín, Cali, Barranquilla, Bucaramanga, Pereira, Manizales, Ibagué, Cúcuta
    CU Havana, Camagüey, Holguín, Santiago de Cuba
    CY Nicosia, Limassol
    CZ Prague, Brno, Ostrava, Olomouc
    DE Berlin, Hamburg, Munich, Cologne, Frankfurt, Stuttgart, Düsseldorf, Dortmund, Leipzig, Dresden, Bremen,
        Hanover, Nuremberg, Bonn, Heidelberg
    DK Copenhagen, Aarhus, Odense, Aalborg
    DO Santo Domingo
    DZ Algiers, Oran, Annaba, Constantine, Sétif
    EC Quito, Guayaquil, Cuenca
    EE Tallinn
    EG Cairo, Alexandria, Giza, Luxor, Aswan, Port Said, Suez, Ismailia
    ER Asmara
    ES Madrid, Barcelona, Seville, Zaragoza, Málaga, Murcia, Bilbao, Alicante, Granada, Salamanca, Valladolid,
        Pamplona, Vigo, Palma de Mallorca, Valencia
    ET Addis Ababa, Dire Dawa, Bahir Dar, Mekelle, Gondar
    FI Helsinki, Tampere, Turku, Oulu, Espoo
    FR Paris, Marseille, Lyon, Toulouse, Nice, Nantes, Strasbourg, Montpellier, Bordeaux, Lille, Rennes, Reims,
        Grenoble, Dijon, Le Havre
    GA Libreville, Port-Gentil
    GB London, Birmingham, Manchester, Glasgow, Liverpool, Leeds, Sheffield, Edinburgh, Bristol, Cardiff, Belfast,
        Leicester, Nottingham, Southampton, Coventry
    GE Tbilisi, Batumi, Kutaisi
    GH Accra, Kumasi, Tamale
    GN Conakry
    GR Athens, Thessaloniki, Patras, Heraklion
    GT Quetzaltenango
    HN Tegucigalpa, San Pedro Sula
    HR Zagreb, Split, Rijeka
    HT Port-au-Prince
    HU Budapest, Debrecen, Szeged, Pécs, Miskolc
    ID Jakarta, Surabaya, Bandung, Medan, Semarang, Makassar, Palembang, Denpasar, Yogyakarta, Balikpapan, Padang,
        Banda Aceh, Bekasi, Tangerang, Pekanbaru
    IE Dublin, Cork
    IL Tel Aviv, Haifa, Ashdod, Beersheba
    IN Mumbai, Delhi, Bangalore, Chennai, Kolkata, Ahmedabad, Pune, Jaipur, Lucknow, Kanpur, Nagpur, Bhopal,
        Varanasi, Kochi, Hyderabad
    IQ Baghdad, Basra, Mosul, Erbil, Kirkuk, Najaf, Karbala, Sulaymaniyah, Fallujah
    IR Tehran, Isfahan, Shiraz, Tabriz, Mashhad, Karaj, Qom, Kerman, Ahvaz, Yazd, Kermanshah
    IS Reykjavik
    IT Rome, Milan, Naples, Turin, Palermo, Genoa, Bologna, Florence, Venice, Verona, Bari, Catania, Padua, Trieste,
        Pisa
    JM Kingston
    JO Amman, Irbid, Zarqa
    JP Tokyo, Osaka, Kyoto, Yokohama, Nagoya, Sapporo, Kobe, Fukuoka, Hiroshima, Nagasaki, Sendai, Kawasaki,
        Kagoshima, Okayama, Niigata
    KE Nairobi, Mombasa, Kisumu, Nakuru, Eldoret
    KG Bishkek, Osh
    KH Phnom Penh, Battambang, Siem Reap
    KP Pyongyang, Hamhung, Wonsan, Kaesong, Chongjin
    KR Seoul, Busan, Incheon, Daegu, Daejeon, Gwangju, Ulsan, Suwon, Pohang, Jeonju
    KZ Almaty, Astana, Shymkent, Karaganda, Aktobe, Semey
    LA Vientiane
    LB Beirut
    LK Colombo, Kandy, Jaffna
    LR Monrovia
    LS Maseru
    LT Vilnius, Kaunas, Klaipėda
    LV Riga, Daugavpils
    LY Tripoli, Benghazi, Misrata
    MA Casablanca, Rabat, Marrakesh, Fez, Tangier, Agadir, Meknes, Oujda
    MD Chisinau
    ME Podgorica
    MG Antananarivo, Toamasina
    MK Skopje
    ML Bamako, Sikasso
    MM Yangon, Mandalay, Naypyidaw
    MN Ulaanbaatar
    MR Nouakchott
    MU Port Louis
    MW Lilongwe, Blantyre
    MX Guadalajara, Monterrey, Puebla, Tijuana, Ciudad Juárez, Acapulco, Cancún, Veracruz, Oaxaca, Chihuahua,
        Hermosillo, Mexicali, Morelia, Querétaro
    MY Kuala Lumpur, Johor Bahru, Ipoh, Kuching, Kota Kinabalu, Malacca, Petaling Jaya
    MZ Maputo, Beira, Nampula
    NA Windhoek
    NE Niamey, Zinder
    NG Lagos, Kano, Ibadan, Abuja, Port Harcourt, Kaduna, Benin City, Maiduguri, Enugu, Jos, Ilorin, Sokoto, Zaria
    NI Managua
    NL Amsterdam, Rotterdam, The Hague, Utrecht, Eindhoven, Groningen, Haarlem, Maastricht, Tilburg, Nijmegen,
        Leiden, Delft
    NO Oslo, Bergen, Trondheim, Stavanger
    NP Kathmandu, Pokhara
    NZ Auckland, Christchurch, Wellington, Dunedin, Hamilton
    OM Muscat, Salalah
    PE Lima, Arequipa, Cusco, Callao, Iquitos, Chiclayo, Piura, Huancayo
    PG Port Moresby, Lae
    PH Manila, Quezon City, Davao, Cebu, Zamboanga, Makati, Baguio, Iloilo, Bacolod, General Santos
    PK Karachi, Lahore, Faisalabad, Rawalpindi, Islamabad, Peshawar, Multan, Quetta, Sialkot, Gujranwala
    PL Warsaw, Kraków, Łódź, Wrocław, Poznań, Gdańsk, Szczecin, Lublin, Katowice, Bydgoszcz, Gdynia, Białystok
    PT Lisbon, Porto, Braga, Coimbra
    PY Asunción, Ciudad del Este
    QA Doha
    RO Bucharest, Cluj-Napoca, Timișoara, Iași, Constanța, Brașov, Craiova
    RS Belgrade, Novi Sad, Niš
    RU Moscow, Saint Petersburg, Novosibirsk, Yekaterinburg, Kazan, Chelyabinsk, Omsk, Samara, Ufa, Krasnoyarsk,
        Perm, Volgograd, Vladivostok, Irkutsk, Murmansk
    RW Kigali
    SA Riyadh, Jeddah, Mecca, Medina, Dammam, Tabuk
    SD Khartoum, Omdurman, Nyala
    SE Stockholm, Gothenburg, Malmö, Uppsala, Linköping, Västerås
    SI Ljubljana, Maribor
    SK Bratislava, Košice
    SL Freetown
    SN Dakar, Touba
    SO Mogadishu, Kismayo
    SR Paramaribo
    SS Juba
    SV San Salvador
    SY Damascus, Aleppo, Homs, Latakia, Raqqa, Hama
    TD N'Djamena
    TG Lomé
    TH Bangkok, Chiang Mai, Hat Yai, Khon Kaen, Udon Thani
    TJ Dushanbe
    TM Ashgabat
    TN Tunis, Sfax, Sousse
    TR Istanbul, Ankara, Izmir, Bursa, Adana, Antalya, Konya, Gaziantep, Kayseri, Mersin, Trabzon, Diyarbakır
    TZ Dar es Salaam, Dodoma, Arusha, Mwanza, Mbeya
    UA Kyiv, Kharkiv, Odesa, Dnipro, Lviv, Zaporizhzhia, Mykolaiv, Poltava, Vinnytsia, Chernihiv
    UG Kampala
    US New York, Los Angeles, Chicago, Houston, Phoenix, Philadelphia, San Antonio, Dallas, Austin, San Francisco,
        Seattle, Denver, Boston, Detroit, Miami
    UY Montevideo
    UZ Tashkent, Samarkand, Bukhara, Namangan
    VE Caracas, Maracaibo, Barquisimeto, Maracay, Maturín, Ciudad Bolívar
    VN Hanoi, Ho Chi Minh City, Da Nang, Haiphong, Hue, Nha Trang, Can Tho
    YE Sanaa, Aden, Taiz
    ZA Johannesburg, Cape Town, Durban, Pretoria, Soweto, Bloemfontein, Pietermaritzburg, East London
    ZM Lusaka, Kitwe, Ndola, Livingstone
    ZW Harare, Bulawayo
"""
"""Large cities that English has a name for, at most 15 a country. `make_topics.py` holds each against GeoNames and
takes those of 50,000 inhabitants or more without a rival of the same name abroad. Left out: cities under dispute, and
those that have their country's name in their own."""

SPANISH = """
    perro dog, gato cat, caballo horse, vaca cow, cerdo pig, oveja sheep, pájaro bird, ratón mouse, conejo rabbit,
    pollo chicken, pato duck, mono monkey, oso bear, lobo wolf, zorro fox, abeja bee, mariposa butterfly,
    hormiga ant, araña spider, tiburón shark, ballena whale, tortuga turtle, rana frog, serpiente snake,
    burro donkey, cabra goat, pulpo octopus, mosca fly, pan bread, leche milk, agua water, queso cheese, huevo egg,
    manzana apple, naranja orange, fresa strawberry, uva grape, limón lemon, piña pineapple, cebolla onion,
    ajo garlic, zanahoria carrot, lechuga lettuce, arroz rice, carne meat, pescado fish, jamón ham, azúcar sugar,
    sal salt, mantequilla butter, aceite oil, miel honey, vino wine, cerveza beer, jugo juice, sopa soup,
    galleta cookie, helado ice cream, pastel cake, pavo turkey, maíz corn, calabaza pumpkin, cereza cherry,
    harina flour, casa house, puerta door, ventana window, mesa table, silla chair, cama bed, cocina kitchen,
    baño bathroom, techo roof, pared wall, suelo floor, jardín garden, llave key, espejo mirror, reloj clock,
    cuchara spoon, cuchillo knife, tenedor fork, plato plate, taza cup, manta blanket, almohada pillow,
    cortina curtain, alfombra carpet, jabón soap, toalla towel, tijeras scissors, escoba broom, caja box,
    botella bottle, cabeza head, ojo eye, nariz nose, boca mouth, oreja ear, diente tooth, lengua tongue, mano hand,
    brazo arm, pierna leg, pie foot, dedo finger, cabello hair, corazón heart, sangre blood, hueso bone, piel skin,
    hombro shoulder, rodilla knee, espalda back, cuello neck, estómago stomach, hígado liver, cerebro brain,
    codo elbow, labio lip, pulgar thumb, uña nail, pulmón lung, camisa shirt, zapato shoe, sombrero hat,
    vestido dress, falda skirt, abrigo coat, guante glove, bufanda scarf, cinturón belt, anillo ring,
    bolsillo pocket, calcetín sock, corbata tie, paraguas umbrella, madre mother, padre father, hermano brother,
    hermana sister, hijo son, hija daughter, abuelo grandfather, abuela grandmother, tío uncle, tía aunt,
    primo cousin, sobrino nephew, sobrina niece, esposo husband, niño boy, niña girl, hombre man, mujer woman,
    amigo friend, vecino neighbor, sol sun, luna moon, estrella star, cielo sky, tierra earth, mar sea, río river,
    lago lake, montaña mountain, bosque forest, árbol tree, flor flower, hoja leaf, hierba grass, piedra stone,
    arena sand, lluvia rain, nieve snow, viento wind, nube cloud, fuego fire, hielo ice, isla island, playa beach,
    trueno thunder, relámpago lightning, sombra shadow, raíz root, semilla seed, rama branch, cueva cave,
    puente bridge, ola wave, humo smoke, polvo dust, ceniza ash, acero steel, hierro iron, oro gold, plata silver,
    madera wood, rojo red, azul blue, verde green, amarillo yellow, negro black, blanco white, gris gray,
    morado purple, rosa pink, marrón brown, día day, noche night, semana week, mes month, año year, hora hour,
    ayer yesterday, hoy today, invierno winter, verano summer, primavera spring, otoño autumn, lunes Monday,
    martes Tuesday, miércoles Wednesday, jueves Thursday, viernes Friday, sábado Saturday, domingo Sunday,
    enero January, siglo century, uno one, dos two, tres three, cuatro four, cinco five, seis six, siete seven,
    ocho eight, nueve nine, diez ten, once eleven, doce twelve, veinte twenty, mil thousand, ciudad city,
    calle street, escuela school, iglesia church, tienda shop, biblioteca library, cárcel prison, granja farm,
    fábrica factory, ejército army, país country, aeropuerto airport, barco ship, avión airplane, coche car,
    tren train, bicicleta bicycle, camión truck, rueda wheel, libro book, carta letter, papel paper, lápiz pencil,
    palabra word, pregunta question, respuesta answer, dinero money, regalo gift, juguete toy, guerra war,
    paz peace, muerte death, vida life, amor love, miedo fear, sueño dream, esperanza hope, verdad truth,
    mentira lie, alegría joy, ley law, rey king, reina queen, bandera flag, espada sword, martillo hammer,
    aguja needle, hilo thread, cuerda rope, campana bell, vela candle, juego game, canción song, película movie,
    periódico newspaper, cuento story, sonrisa smile, beso kiss, voz voice, ruido noise, luz light, olor smell,
    salud health, médico doctor, enfermera nurse, abogado lawyer, maestro teacher, panadero baker,
    carnicero butcher, pescador fisherman, bombero firefighter, escritor writer, alcalde mayor, soldado soldier,
    ladrón thief, bruja witch, grande big, pequeño small, viejo old, nuevo new, joven young, bueno good, malo bad,
    feliz happy, triste sad, rico rich, pobre poor, fuerte strong, débil weak, frío cold, caliente hot, rápido fast,
    lento slow, alto tall, largo long, ancho wide, limpio clean, sucio dirty, lleno full, vacío empty, fácil easy,
    barato cheap, caro expensive, dulce sweet, amargo bitter, duro hard, blando soft, ciego blind, sordo deaf,
    enojado angry, cansado tired, hermoso beautiful, feo ugly, enfermo sick, seco dry, mojado wet,
    peligroso dangerous, pesado heavy, oscuro dark
"""
"""Spanish word, English word. Left out: words spelled alike in both, and meanings close enough to pass for one another
(a glass and a cup, a town and a city), since a false statement must be false."""

INVENTIONS = """
    the telephone: Alexander Graham Bell
    the phonograph: Thomas Edison
    dynamite: Alfred Nobel
    the World Wide Web: Tim Berners-Lee
    the steam locomotive: Richard Trevithick
    the cotton gin: Eli Whitney
    the mechanical reaper: Cyrus McCormick
    the airplane: the Wright brothers
    the hot air balloon: the Montgolfier brothers
    the barometer: Evangelista Torricelli
    the lightning rod: Benjamin Franklin
    the electric battery: Alessandro Volta
    the stethoscope: René Laennec
    vulcanized rubber: Charles Goodyear
    the safety elevator: Elisha Otis
    the revolver: Samuel Colt
    the lockstitch sewing machine: Elias Howe
    the compression-ignition engine: Rudolf Diesel
    the automobile: Karl Benz
    the motorcycle: Gottlieb Daimler
    the pneumatic bicycle tire: John Boyd Dunlop
    the disposable razor blade: King Camp Gillette
    the modern zipper: Gideon Sundback
    the modern ballpoint pen: László Bíró
    the QWERTY keyboard: Christopher Latham Sholes
    the cash register: James Ritty
    the air conditioner: Willis Carrier
    the dishwasher: Josephine Cochrane
    the windshield wiper: Mary Anderson
    Kevlar: Stephanie Kwolek
    the microwave oven: Percy Spencer
    the bubble chamber: Donald Glaser
    the cloud chamber: Charles Wilson
    the cyclotron: Ernest Lawrence
    the mass spectrograph: Francis Aston
    the ruby laser: Theodore Maiman
    the maser: Charles Townes
    holography: Dennis Gabor
    the electron microscope: Ernst Ruska
    the integrated circuit: Jack Kilby
    the computer mouse: Douglas Engelbart
    Ethernet: Robert Metcalfe
    the C programming language: Dennis Ritchie
    the C++ programming language: Bjarne Stroustrup
    the Python programming language: Guido van Rossum
    the Java programming language: James Gosling
    the Perl programming language: Larry Wall
    the Ruby programming language: Yukihiro Matsumoto
    the JavaScript programming language: Brendan Eich
    the Pascal programming language: Niklaus Wirth
    the Lisp programming language: John McCarthy
    the Linux kernel: Linus Torvalds
    the TeX typesetting system: Donald Knuth
    the Super Soaker: Lonnie Johnson
    Velcro: George de Mestral
    nylon: Wallace Carothers
    Bakelite: Leo Baekeland
    Teflon: Roy Plunkett
    cellophane: Jacques Brandenberger
    the injected polio vaccine: Jonas Salk
    the oral polio vaccine: Albert Sabin
    the smallpox vaccine: Edward Jenner
    the rabies vaccine: Louis Pasteur
    the iron lung: Philip Drinker
    the dialysis machine: Willem Kolff
    the electrocardiogram: Willem Einthoven
    electroencephalography: Hans Berger
    the CT scanner: Godfrey Hounsfield
    the printing press: Johannes Gutenberg
    lithography: Alois Senefelder
    the calotype: William Henry Fox Talbot
    heliography: Nicéphore Niépce
    the Kodak camera: George Eastman
    the Polaroid camera: Edwin Land
    the cinematograph: the Lumière brothers
    the pendulum clock: Christiaan Huygens
    the marine chronometer: John Harrison
    the spinning jenny: James Hargreaves
    the water frame: Richard Arkwright
    the spinning mule: Samuel Crompton
    the power loom: Edmund Cartwright
    the flying shuttle: John Kay
    the atmospheric steam engine: Thomas Newcomen
    the separate condenser: James Watt
    the steam turbine: Charles Parsons
    the four-stroke engine: Nikolaus Otto
    the homopolar generator: Michael Faraday
    the electromagnet: William Sturgeon
    the vacuum pump: Otto von Guericke
    the mercury thermometer: Daniel Gabriel Fahrenheit
    the slide rule: William Oughtred
    the Analytical Engine: Charles Babbage
    the stepped reckoner: Gottfried Wilhelm Leibniz
    the reflecting telescope: Isaac Newton
    movable type: Bi Sheng
    the gyroscope: Léon Foucault
    the hovercraft: Christopher Cockerell
    the fully automatic machine gun: Hiram Maxim
    the AK-47: Mikhail Kalashnikov
    the liquid-fueled rocket: Robert Goddard
    the hydraulic press: Joseph Bramah
    the steam hammer: James Nasmyth
    Portland cement: Joseph Aspdin
    barbed wire: Joseph Glidden
    the parking meter: Carl Magee
    the cat's eye road reflector: Percy Shaw
    the safety pin: Walter Hunt
    Liquid Paper: Bette Nesmith Graham
    the shopping cart: Sylvan Goldman
    basketball: James Naismith
    volleyball: William Morgan
    Scrabble: Alfred Butts
    Tetris: Alexey Pajitnov
    the crossword puzzle: Arthur Wynne
    Esperanto: Ludwik Zamenhof
    the Game of Life: John Conway
    the Slinky: Richard James
    the clarinet: Johann Christoph Denner
    the piano: Bartolomeo Cristofori
    the vocoder: Homer Dudley
    the compact cassette: Lou Ottens
    the bagless vacuum cleaner: James Dyson
    the clockwork radio: Trevor Baylis
    the Segway: Dean Kamen
    Coca-Cola: John Pemberton
    Pepsi: Caleb Bradham
    Dr Pepper: Charles Alderton
    condensed milk: Gail Borden
    margarine: Hippolyte Mège-Mouriès
    canning: Nicolas Appert
    the instant noodle: Momofuku Ando
    milk chocolate: Daniel Peter
    the pressure cooker: Denis Papin
    the vacuum flask: James Dewar
    the periodic table: Dmitri Mendeleev
    the triode: Lee de Forest
    the vacuum diode: John Ambrose Fleming
    FM radio: Edwin Armstrong
    electronic television: Philo Farnsworth
    mechanical television: John Logie Baird
    the iconoscope: Vladimir Zworykin
    the cathode-ray tube: Karl Ferdinand Braun
    the fuel cell: William Grove
    the lead-acid battery: Gaston Planté
    the alkaline battery: Lewis Urry
    the bathyscaphe: Auguste Piccard
    the self-propelled torpedo: Robert Whitehead
    the lawn mower: Edwin Budding
    the dandy horse: Karl von Drais
    the safety bicycle: John Kemp Starley
    the rigid airship: Ferdinand von Zeppelin
    the glider: George Cayley
    the seaplane: Henri Fabre
    the autogyro: Juan de la Cierva
    the flight recorder: David Warren
    the ophthalmoscope: Hermann von Helmholtz
    the soft contact lens: Otto Wichterle
    the polymerase chain reaction: Kary Mullis
    the handheld mobile phone: Martin Cooper
    the home video game console: Ralph Baer
    the wiki: Ward Cunningham
    the GIF image format: Steve Wilhite
    the relational database: Edgar Codd
    quicksort: Tony Hoare
    Bitcoin: Satoshi Nakamoto
    the Apple I computer: Steve Wozniak
    dynamic random-access memory: Robert Dennard
    the Enigma machine: Arthur Scherbius
    the tuning fork: John Shore
    the friction match: John Walker
    the electric razor: Jacob Schick
    the snowmobile: Joseph-Armand Bombardier
    the three-point seat belt: Nils Bohlin
    the steel plow: John Deere
    the threshing machine: Andrew Meikle
    the kaleidoscope: David Brewster
    the stereoscope: Charles Wheatstone
    the phenakistoscope: Joseph Plateau
    the bouncing bomb: Barnes Wallis
"""
"""Invention, inventor, as textbooks give them. Left out: what several people claim (radio, light bulb, jet engine),
what two or more made together (transistor), and what bears its inventor's name (Morse code, saxophone)."""

ANIMALS = """
    mammals: dogs, cats, horses, cows, pigs, sheep, goats, elephants, lions, tigers, leopards, bears, wolves, foxes,
        rabbits, mice, squirrels, bats, whales, dolphins, seals, otters, giraffes, zebras, camels, monkeys,
        gorillas, chimpanzees, kangaroos, koalas, hedgehogs, deer, moose, beavers, raccoons, hippopotamuses,
        porcupines, badgers, weasels, walruses
    birds: eagles, hawks, owls, sparrows, robins, penguins, ostriches, parrots, ducks, geese, swans, chickens,
        turkeys, pigeons, crows, ravens, flamingos, peacocks, pelicans, seagulls, storks, herons, woodpeckers,
        vultures, falcons, canaries, cuckoos, emus, finches, puffins, albatrosses, toucans, nightingales, magpies,
        quails, pheasants, swallows, starlings, larks
    reptiles: crocodiles, alligators, lizards, iguanas, geckos, chameleons, tortoises, turtles, pythons, cobras,
        rattlesnakes, Komodo dragons, vipers, boa constrictors, anacondas, skinks, monitor lizards, terrapins, black
        mambas, gharials, tuataras, adders
    fish: salmon, trout, tuna, sharks, cod, herring, sardines, eels, carp, pike, halibut, mackerel, anchovies,
        seahorses, piranhas, sturgeons, barracudas, stingrays, guppies, haddock, perch, flounders, minnows,
        groupers, lampreys
    insects: ants, bees, wasps, butterflies, moths, beetles, mosquitoes, houseflies, grasshoppers, crickets,
        dragonflies, cockroaches, termites, ladybugs, locusts, fleas, cicadas, aphids, earwigs, hornets, fireflies,
        mayflies, lice, bumblebees, praying mantises, weevils, damselflies
    amphibians: frogs, toads, salamanders, newts, axolotls, bullfrogs, caecilians, tree frogs, cane toads,
        hellbenders, mudpuppies
    arachnids: spiders, scorpions, ticks, mites, tarantulas, black widows, harvestmen
    crustaceans: crabs, lobsters, shrimp, krill, barnacles, woodlice, prawns
    mollusks: snails, slugs, clams, oysters, mussels, squid, octopuses, scallops
"""
"""Class, animals; both plural, as they stand in a sentence."""
