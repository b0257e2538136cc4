"""From a coupon to a plant: pressure in, product of spiral-wound modules out (chapter 07)"""

from ion_ode._names import face

__getattr__, __dir__ = face(
    __name__, "answers", "plant", "vessel", "element", "channel", "cell", "design", "law", "solve"
)
